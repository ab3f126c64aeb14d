package messaging

import (
	"math/rand/v2"
	"time"
)

// limits are the engine's figures. Tests shorten them; nobody else sets them.
type limits struct {
	lease       time.Duration // how long a claimed message is another's no more
	batch       int           // messages of one transaction, at most
	batchTime   time.Duration // after that a batch commits what it has
	batchBytes  int           // of payload, likewise
	slow        time.Duration // a handler of a batch over that runs alone instead
	alone       time.Duration // a handler alone over that is cut off
	maxAttempts int           // then a message is dead; 0 = never
	maxCrashes  int           // likewise
	backoff     func(attempt int) time.Duration
	poll        time.Duration // a sleeping consumer or relay looks at least that often
	relayBatch  int
	replies     time.Duration // an answer that nobody has come for after that is swept
}

func defaultLimits() limits {
	return limits{
		lease: 10 * time.Second, batch: 50, batchTime: 50 * time.Millisecond, batchBytes: MaxPayload,
		slow: time.Second, alone: 5 * time.Second, maxAttempts: 8, maxCrashes: 3,
		backoff: backoff, poll: maxSleep, relayBatch: 200, replies: maxPatience,
	}
}

// backoff doubles from 100 ms to a minute; the jitter, half of it, keeps what
// failed together from coming back together.
func backoff(attempt int) time.Duration {
	d := min(time.Minute, 100*time.Millisecond<<min(attempt-1, 10))
	return d/2 + rand.N(d/2)
}

// pause is how long a message waits that failed through no fault of its own.
func pause() time.Duration { return 10*time.Millisecond + rand.N(90*time.Millisecond) }
