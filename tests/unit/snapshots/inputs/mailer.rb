# frozen_string_literal: true

require "net/smtp"
require "erb"

module Post
  DEFAULTS = { host: "localhost", port: 25 }.freeze

  # Sends mails one after the other.
  class Mailer < Base
    attr_reader :host, :port

    def initialize(host: DEFAULTS[:host], port: DEFAULTS[:port])
      @host = host
      @port = port
    end

    # Delivers one message.
    def deliver(message, to:)
      Net::SMTP.start(host, port) { |smtp| smtp.send_message(message, "from@example.org", to) }
    end

    def self.default
      @default ||= new(host: ENV.fetch("SMTP_HOST", "localhost"), port: 25)
    end

    private def render(template, values)
      ERB.new(File.read(template)).result_with_hash(values)
    end
  end

  Failure = Struct.new(:message, :reason, :attempts) do
    def to_s
      "#{message} was not delivered: #{reason} (#{attempts} attempts)"
    end
  end
end

def main(arguments)
  Post::Mailer.default.deliver(arguments.first, to: arguments.drop(1))
end
