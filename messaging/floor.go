package messaging

import "time"

// floorAge is how long ago the ids below a floor were carried. A transaction
// takes its outbox ids in its last statement, and the server ends a session that
// then idles for 5 s: so no row with a lower id can still be on its way.
const floorAge = 8 * time.Second

// floor is the id at which a relay begins to read its outbox. Below it there are
// only entries of rows that are gone, which the index keeps for as long as anybody
// on the server holds an old snapshot: reading past them is what would make a
// relay slow. Once per second it reads from the beginning all the same.
type floor struct {
	seconds []second // the past, oldest first
	wholeAt time.Time
}

// second is the highest id that was carried by the end of a second.
type second struct {
	at   time.Time // its begin
	last int64
}

// carried notes that the row with id, and those before it, left at now.
func (f *floor) carried(id int64, now time.Time) {
	if id == 0 {
		return
	}
	if n := len(f.seconds); n > 0 && now.Sub(f.seconds[n-1].at) < time.Second {
		f.seconds[n-1].last = max(f.seconds[n-1].last, id)
		return
	}
	f.seconds = append(f.seconds, second{now, id})
	// Only the newest of those that are old enough is needed.
	for len(f.seconds) > 1 && now.Sub(f.seconds[1].at) > floorAge+time.Second {
		f.seconds = f.seconds[1:]
	}
}

// at returns the id to begin at now.
func (f *floor) at(now time.Time) int64 {
	if !now.Before(f.wholeAt) {
		f.wholeAt = now.Add(time.Second)
		return 0
	}
	if len(f.seconds) == 0 || now.Sub(f.seconds[0].at) <= floorAge+time.Second {
		return 0
	}
	return f.seconds[0].last
}
