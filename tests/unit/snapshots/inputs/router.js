'use strict';

const http = require('http');
const { parse } = require('./parse');

const compile = (pattern) => {
  const keys = [];
  return { keys, test: (path) => pattern.exec(path) };
};

class Router {
  #routes = new Map();

  constructor(options = {}) {
    this.options = { strict: false, sensitive: false, ...options };
  }

  /** Adds a route. */
  add(method, path, handler) {
    this.#routes.set(`${method} ${path}`, { handler, match: compile(path) });
    return this;
  }

  onError = (error, request) => {
    console.error('request failed', request.url, error);
  };
}

Router.prototype.lookup = function (method, path) {
  return this.options.strict ? this.exact(method, path) : this.loose(method, path);
};

const handlers = {
  async index(request, response) {
    response.end(await parse(request.url, { query: true }));
  },
  missing: function (request, response) {
    response.statusCode = 404;
    response.end('there is nothing here');
  },
};

export default function start(port) {
  return http.createServer(handlers.index).listen(port, '127.0.0.1');
}

module.exports.Router = Router;
