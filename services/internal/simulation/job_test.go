package simulation

import (
	"fmt"
	"iter"
	"slices"

	"example.com/orderflow/messaging"
)

// job is a consumer with a leased message in hand. It is carried on from request to
// request to the provider, and others come in between.
type job struct {
	d     *delivery
	lease int // the claim that it works under
	goOn  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
}

// killed is the panic of a process that ends in mid-work.
type killed struct{}

// claim has a consumer take d from its queue.
func (w *world) claim(d *delivery) {
	if d.done > 0 && !w.off(inboxRead) {
		w.saw("message known from the inbox")
		w.ack(d)
		return
	}
	d.lease++
	if d.jobs > 0 {
		w.saw("lease lost")
	}
	d.jobs++
	j := &job{d: d, lease: d.lease}
	w.note("#%d %T to payments is claimed, lease %d", d.n, d.body, d.lease)
	j.goOn, j.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			if p := recover(); p != nil {
				if _, ok := p.(killed); !ok {
					panic(p)
				}
			}
		}()
		j.yield = yield
		w.serve(j)
	})
	w.jobs = append(w.jobs, j)
	w.carryOn(j)
}

// carryOn has j work until its next pause.
func (w *world) carryOn(j *job) {
	before := w.running
	w.running = j
	w.note("a consumer goes on with #%d", j.d.n)
	_, more := j.goOn()
	w.running = before
	if !more {
		w.end(j)
	}
}

// kill ends the process that works on j, wherever it is.
func (w *world) kill(j *job) {
	w.note("the consumer of #%d dies", j.d.n)
	j.stop()
	w.end(j)
}

func (w *world) end(j *job) {
	j.d.jobs--
	w.jobs = slices.DeleteFunc(w.jobs, func(other *job) bool { return other == j })
}

// pause lets others work before the running job goes on. It doesn't come back when
// the process is killed meanwhile.
func (w *world) pause() {
	if j := w.running; j != nil && !j.yield(struct{}{}) {
		panic(killed{})
	}
}

// commit is a transaction of the running job, which may die before or after it.
func (w *world) commit(what string, write func()) {
	switch w.fate() {
	case crashesBefore:
		w.saw("crash before " + what)
		panic(killed{})
	case crashesAfter:
		write()
		w.saw("crash after " + what)
		panic(killed{})
	}
	write()
}

// serve handles j's message as the engine does: what the handler returns runs in the
// transaction that has the inbox row and the ack, if the lease is still j's.
func (w *world) serve(j *job) {
	d := j.d
	record, err := w.desk.handle(d.body)
	if err != nil {
		w.note("  #%d comes to an error: %v", d.n, err)
		if isPermanent(err) {
			w.saw("hopeless command")
			w.bury(d, err.Error())
		}
		return
	}
	f := w.fate()
	if f == crashesBefore {
		w.saw("crash before the record")
		panic(killed{})
	}
	if j.lease != d.lease {
		w.saw("late consumer fenced")
		return
	}
	if d.done > 0 && !w.off(inboxRead) {
		w.saw("message known from the inbox")
		w.ack(d)
		return
	}
	sends, err := record()
	if err != nil {
		w.note("  #%d can't be recorded: %v", d.n, err)
		if isPermanent(err) {
			w.saw("hopeless command")
			w.bury(d, err.Error())
		}
		return
	}
	w.handled(d.letter)
	w.send(sends...)
	if f == crashesAfter {
		w.saw("crash after the record")
		panic(killed{})
	}
	w.ack(d)
}

// permanent is the type of the errors that messaging.Permanent marks.
var permanent = fmt.Sprintf("%T", messaging.Permanent(anError{}))

type anError struct{}

func (anError) Error() string { return "an error" }

// isPermanent reports whether err, or one it wraps, is marked so.
func isPermanent(err error) bool {
	if err == nil {
		return false
	}
	if fmt.Sprintf("%T", err) == permanent {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return isPermanent(e.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), isPermanent)
	}
	return false
}
