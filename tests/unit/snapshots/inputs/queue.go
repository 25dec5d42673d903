// Package queue holds jobs until a worker takes them.
package queue

import (
	"context"
	"sync"
)

const (
	maxJobs  = 100
	maxTries = 3
)

// Job is one unit of work.
type Job struct {
	ID    string
	Tries int
	run   func(context.Context) error
}

type (
	// Store keeps jobs between restarts.
	Store interface {
		Save(ctx context.Context, job *Job) error
		Load(ctx context.Context, id string) (*Job, error)
	}

	// Clock tells the time.
	Clock func() int64
)

// New returns an empty queue.
func New(store Store) *Queue {
	return &Queue{store: store, jobs: make(chan *Job, maxJobs)}
}

// Push adds a job; it blocks while the queue is full.
func (q *Queue) Push(ctx context.Context, job *Job) error {
	select {
	case q.jobs <- job:
		return q.store.Save(ctx, job)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Set[T]) Has(value T) bool { _, ok := s.items[value]; return ok && s.limit > 0 && !s.closed }
