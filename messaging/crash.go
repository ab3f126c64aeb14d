package messaging

// CrashPoint is a place between two steps where a process can be told to die
// (Config.Crash), to see that nothing is lost by it and nothing is done twice.
type CrashPoint struct {
	Name string // "<layer>.<moment>"
	Says string // what has happened there, and what hasn't
}

// The points that the messaging layer comes by. Before a commit everything else of
// its transaction is done at the server.
const (
	crashTransactClaimed      = "transact.claimed"
	crashTransactBeforeCommit = "transact.before_commit"
	crashTransactAfterCommit  = "transact.after_commit"
	crashLeaseClaimed         = "lease.claimed"
	crashLeaseAnswered        = "lease.answered"
	crashLeaseBeforeCommit    = "lease.before_commit"
	crashLeaseAfterCommit     = "lease.after_commit"
	crashInTxBeforeCommit     = "intx.before_commit"
	crashInTxAfterCommit      = "intx.after_commit"
	crashScheduleBeforeCommit = "schedule.before_commit"
	crashScheduleAfterCommit  = "schedule.after_commit"
	crashRelayBeforeCommit    = "relay.before_commit"
	crashRelayAfterCommit     = "relay.after_commit"
	crashNackBefore           = "nack.before"
	crashNackAfter            = "nack.after"
	crashDrainBegun           = "drain.begun"
	crashDrainHandled         = "drain.handled"
)

// CrashHTTPBeforeAnswer is the one point that a program's HTTP server comes by.
const CrashHTTPBeforeAnswer = "http.before_answer"

// CrashPoints lists all points, for whoever sets them and for tests that have to
// have come by each.
func CrashPoints() []CrashPoint {
	return []CrashPoint{
		{crashTransactClaimed, "a batch is claimed from a transactional queue, and nothing of it is handled"},
		{crashTransactBeforeCommit, "a batch is handled, traced and acknowledged, its messages are in the outbox, and nothing is committed"},
		{crashTransactAfterCommit, "a batch is committed, and nobody was told of what it sends"},
		{crashLeaseClaimed, "messages are claimed from a leased queue, and no handler has begun"},
		{crashLeaseAnswered, "a leased handler is done with the outside, and nothing of that is recorded"},
		{crashLeaseBeforeCommit, "what the outside answered is recorded and acknowledged, and nothing is committed"},
		{crashLeaseAfterCommit, "what the outside answered is committed, and nobody was told of what it sends"},
		{crashInTxBeforeCommit, "a request's transaction, or a leased handler's intent, is written and not committed"},
		{crashInTxAfterCommit, "a request is stored and its client has no answer, or an intent is stored and the outside isn't asked yet"},
		{crashScheduleBeforeCommit, "what fell due is done and not committed"},
		{crashScheduleAfterCommit, "what fell due is committed, and nobody was told of what it sends"},
		{crashRelayBeforeCommit, "a batch has left the outbox for the queues and the log, and nothing is committed"},
		{crashRelayAfterCommit, "a batch is in the queues, and nobody was woken"},
		{crashNackBefore, "a message has failed, and its row doesn't say so"},
		{crashNackAfter, "a message that has failed is put back, or among the dead letters"},
		{crashDrainBegun, "the process is told to end, and has work in hand"},
		{crashDrainHandled, "the process has finished what it had in hand, and what that sent may be in the outbox"},
		{CrashHTTPBeforeAnswer, "a request that may change something is done, and its client has no answer"},
	}
}

// at has the process come by point. A plain Subscriber has no Bus, and no points.
func (b *Bus) at(point string) {
	if b != nil && b.cfg.Crash != nil {
		b.cfg.Crash(point)
	}
}

// around has the process come by two points with the commit of tx. The commit then
// takes a round trip of its own, so that there is a moment before it.
func (b *Bus) around(tx *Tx, before, after string) {
	if b == nil || b.cfg.Crash == nil {
		return
	}
	tx.beforeCommit = func() { b.cfg.Crash(before) }
	tx.afterCommit(func() { b.cfg.Crash(after) })
}
