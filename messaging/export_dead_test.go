package messaging

// ReasonGroup is what dead letters' reasons are grouped by.
var ReasonGroup = reasonGroup

// BrowseDead is what lists the dead letters of queue.
func BrowseDead(queue string) (statement string) {
	t := deadQueue(queue)
	return `SELECT ` + t.columns() + ` FROM ` + t.chosen() + ` ORDER BY id LIMIT $10`
}

// FindDead is what finds a dead letter of queue by its message id.
func FindDead(queue string) (statement string) {
	return `SELECT id FROM ` + deadQueue(queue).chosen() + ` ORDER BY id`
}

// BrowseDeadOutbox is what lists the dead letters in the outbox of service.
func BrowseDeadOutbox(service string) (statement string) {
	t := deadOutbox(service)
	return `SELECT ` + t.columns() + ` FROM ` + t.chosen() + ` ORDER BY id LIMIT $10`
}
