// Package simulation has the whole shop run through every misfortune that a seed
// can think of, thousands of times a second, and looks after each step whether
// money and stock are right. All of it is tests.
//
// The deciding code is the services' own: orders.Rules.Decide, inventory.Decider
// and payments.Decider, which talks to the provider by the real protocol. What is
// around it is small models: rows (what is committed and what is not), queues with
// leases and an inbox, a clock, the provider with its misdeeds, customers, operators,
// the warehouse. Nothing is concurrent: the seed chooses what happens next, so a
// seed is a story that can be told again, and rapid shrinks it to its point.
//
// A model that is kinder than what it stands for would prove nothing. So random
// steps go through the models and through the real services on a real PostgreSQL and
// must come to the same rows and messages; and with one guard switched off at a time
// the simulation must notice.
//
// Left out are the relay's own work and the consumers of a queue, which messaging
// tests by a model of its own, and HTTP.
package simulation
