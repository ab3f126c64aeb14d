package messaging

// ReasonGroup is what dead letters' reasons are grouped by.
var ReasonGroup = reasonGroup

// BrowseDead are the statements that find dead letters in queue and in the
// outbox of service, by name.
func BrowseDead(queue, service string) map[string]string {
	all := map[string]string{}
	for _, t := range []deadTable{deadQueue(queue), deadOutbox(service)} {
		all["window of "+t.queue] = t.window()
		all["letters of "+t.queue] = `SELECT ` + t.columns() + ` FROM ` + t.chosen(DeadFilter{}) + ` ORDER BY id`
		all["count of "+t.queue] = `SELECT count(*) FROM ` + t.chosen(DeadFilter{})
		all["named of "+t.queue] = `SELECT ` + t.columns() + ` FROM ` + t.chosen(DeadFilter{MessageIDs: []string{}}) + ` ORDER BY id`
	}
	return all
}
