// Package messaging carries commands and events between services through queues
// in PostgreSQL, on top of Watermill: its Publisher, Subscriber and Router, and
// watermill-sql's Publisher for the writing.
//
// # Promise
//
// A command goes to one queue, its receiver's; each message there is handled by
// one of any number of competing consumers. An event goes to every queue that
// subscribed to its kind, and into the log of its speaker.
//
// A message is stored from the commit of the transaction that sent it until it
// is handled. Its effect in the database happens exactly once: the effect, the
// inbox row that remembers the message, the messages that it causes and its
// acknowledgement are one transaction. The effect outside (a payment, a mail)
// happens under a key that the outside knows again.
//
// The messages of one sender about one order are started in the order sent, one
// at a time per queue, until one of them becomes a dead letter. Delayed and
// redriven messages have no such place. Handlers must be right in any order all
// the same: this only makes the wrong one rare.
//
// A message that fails is tried again with exponential backoff and jitter and
// holds up only its own order; after 8 attempts, or at once when it is hopeless
// (Permanent), it is a dead letter: it stays in its place with the reason, to be
// looked at, edited, redriven or discarded by an Operator. A message whose consumer
// dies three times is one, too. A slow handler delays nobody but its own queue's
// share of consumers. Ending a Bus finishes what is in hand.
//
// # Way of a message
//
//	service's transaction ── business rows + outbox row ── commit
//	    outbox ── relay (in the sender's processes, under its role) ──► queues of the receivers, log
//	    queue ── consumer: claim ── one transaction: inbox + handler's rows + outbox + ack ── commit
//
// In code: Tx.Publish (tx.go) and its INSERT (outbox.go); relay.go; claim.go, the SQL
// of a queue; transact.go and lease.go, the two ways of consuming; subscriber.go,
// what Watermill sees; router.go, dispatch to handlers; inbox.go; dead.go, redrive.go
// and amend.go, what an operator does with dead letters; replay.go, replay_copy.go
// and pause.go; retention.go; inspect.go and journey.go; request.go; migrate.go,
// tables and rights from each service's Spec; stock.go, for watermill-sql's own
// Subscriber.
//
// # Rules behind it
//
// Outbox. A handler locks its row of the order first and its outbox rows are
// written last, by one INSERT: so outbox ids follow the order of commits for
// every order. The relay takes an advisory lock in a statement of its own, then
// moves a batch in one statement, in id order: queue ids follow too. A row that
// can't be moved is marked dead and stops nobody. The statement has the routes in
// it, by their version: when they have changed the server refuses the batch, and
// the relay learns them anew. Like a claim it begins to read behind what it has
// carried (floor.go), and once per second from the beginning.
//
// Queue. One table per queue. The column due alone is visibility, delay, backoff
// and end of lease. A row is claimable when it is due and has no lane, or is the
// first living one of its lane: plain SKIP LOCKED would let a later message of an
// order overtake. A claim is an UPDATE that sets a token; an ack is a DELETE by id
// and token, so whoever lost a lease can't commit. The scan for due rows begins at
// a floor, which keeps it off the dead index entries that an old snapshot
// elsewhere keeps alive. It does read past what waits in a lane whose first message
// is in hand: with some ten thousand waiting in one lane, claims take tens of
// milliseconds. A lane is an order, not a tenant.
//
// Transactional queues (handlers that only touch the database): up to 50 messages,
// 50 ms or 1 MiB share a transaction. When one fails only it is dropped and the
// rest done again; after three failures each runs by itself, as does every message
// at its second attempt, and one that takes over a second. Leased queues (handlers
// that talk to the outside): each message by itself, its lease renewed until the
// handler's deadline; what the handler returns runs in the acknowledging
// transaction, which rolls back when the token has gone. What is answered while
// another is being recorded is recorded together; when that fails, each by itself,
// unless the server is away: then all are given back.
//
// Round trips are what a message costs most. So in both modes BEGIN goes with the
// first statement (conn.go), and the writes that nobody reads (Tx.Queue), trace,
// ack, outbox and COMMIT go together; the rows that a batch's messages write by the
// same statement (Tx.QueueRow) are one statement. The server judges the ack: it
// refuses the COMMIT when fewer rows are there than were handled. A transactional
// claim doesn't ask the inbox: its key refuses the commit of what was handled
// before, and then the batch is done again without it.
//
// What is no fault of the message doesn't count as an attempt: serialisation
// failures, deadlocks, a lost connection, shutdown, and what the handler marks as
// Later. A connection lost in the COMMIT leaves its outcome unknown; the messages
// are given back then, which is right in any case: what was acknowledged isn't
// there any more, and what is given back can't be acknowledged by a commit that is
// still on its way.
//
// Wake-ups. The own relay is woken by a channel after commit; consumers by a
// NOTIFY that goes with the relay's batch but after its COMMIT, at once and then
// at most every 2 ms (inside a writing transaction it would make all commits of
// the server queue up). Rings are counted (wake.go): a consumer sleeps when nobody
// has rung since it began to claim, its claim got less than it asked for, and its
// ack found nothing more in its lanes; the claim told it when the next message
// falls due. One that is woken while another of the process is at work lets that
// one come back first, for 5 ms. Polling once a second covers what is lost.
//
// Commits that only move messages (relay, claim, nack, lease) don't wait for the
// disk: what a crash of the server takes back of them took nothing else with it.
// The commit of an effect always waits.
//
// Dead letters. A dead row is outside every index that claims read; its due time is
// when it died. From then on it is the operators', whose acts are recorded: a service
// may make a row of its queue or outbox dead, but neither change nor delete it after
// that (a trigger whose condition is all that a living row pays, a few tenths of a
// microsecond). Operators find the dead of a given message by an index of their own,
// look at others a window of rows at a time and redrive them in small transactions,
// in the order of sending, at a rate; an UPDATE of what is still dead makes it
// harmless that two do so at once. Only the payload and its schema version can be
// edited, never what a message is known by. A discarded message leaves no row in an
// inbox, which tells what was handled, but a record in messaging.actions with what a
// trace would tell. That record has hashes and sizes of payloads, never a payload.
//
// Upgrades. Receivers are upgraded before senders. A replica that meets a kind or
// a schema version newer than itself makes a dead letter of it, to be redriven when
// it knows more.
//
// Requests (Ask and Answer, request.go) are commands whose sender waits. They say
// how long, and one that comes too late is acknowledged unanswered. The answer is a
// row in the asker's table of replies, written in the acknowledging transaction and
// fetched by the process whose own bell it rings; what nobody fetches is swept
// after a minute. Who asks nothing looks for nothing.
//
// Operators see how queues and outboxes stand (Operator.Queues, inspect.go) and
// every message about an order (Operator.Journey, journey.go). Neither costs a
// message anything on its way, nor more the more has piled up.
//
// Inboxes are partitioned by message id: a UUID v7 begins with its time, so a day
// is a range of ids, the key (message_id, consumer, run) is unique across days, and
// a look-up touches one partition.
//
// # Replay, pause, retention
//
// A queue whose Spec says Replayable can have its events handled again
// (Operator.Replay): they are copied from the logs of their speakers, in order, as a
// new run, and the last page under the locks of the relays, so that nothing is missed
// or doubled between log and live. Meanwhile its routes aren't live and new events
// reach it through the log. It ends however fast they are sent (replay_pace.go). What
// the old run left is deleted first: who has a message of it in hand can't commit. A
// row bears its run and the inbox remembers it: a message counts as handled when this
// run, or a later one, has handled it, so commands and second copies are done once
// through all replays. A handler finds Message.Run and, if the queue handled the
// event in an earlier run, Message.Replayed. What it publishes is new messages each
// time: nothing stands between them and who gets them, so a queue that commands
// others, or has mail sent, is replayable only if its handlers ignore what has
// happened already. A new queue that is replayable is fed the same way by the
// migrator.
//
// A paused queue (Operator.Pause) is asked for by every claim: none begins after
// the pause is committed. What is in hand finishes, messages keep arriving, and
// Resume wakes the consumers.
//
// Logs are kept for 7 days and inboxes for 35 (table messaging.retention,
// Operator.Keep); each service drops its own old days, once an hour, through a
// function that lets it do nothing else. A log keeps what an unfinished replay
// hasn't read. An inbox is kept for a day longer than any log its service hears,
// waits for an unfinished replay, and keeps the day of a message whose second copy
// still lies in a queue, delayed or dead. A dead letter that was never handled
// holds no day: redriven after months it has its effect once, and is remembered
// anew. What remains: a second copy that first arrives, from a transport, when the
// day of its message is gone is handled again.
//
// # Crash points
//
// Between any two steps a process may be killed, and nothing is lost by it or done
// twice. So that tests can have it die just there, the steps have names (crash.go,
// CrashPoints), and Config.Crash is called at each. Around a commit there is a moment
// before it and one after it only then: else it goes along with what is committed.
//
// # Never
//
// It never runs a handler's half-done work to a commit, never deletes what was not
// handled, never sends from outside a transaction, and never logs a payload. It
// doesn't use Watermill's own Retry, PoisonQueue, Deduplicator or CircuitBreaker
// middleware: each of them loses or doubles messages here.
package messaging
