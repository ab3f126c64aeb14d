package messaging

import (
	"log/slog"

	"github.com/ThreeDotsLabs/watermill"
)

// watermillLog hands Watermill's log lines to slog. What Watermill calls info is
// our debug; a handler's error is told by the consumer, who knows what becomes
// of the message, so Watermill's own report of it is debug too.
type watermillLog struct{ log *slog.Logger }

func (l watermillLog) Error(msg string, err error, f watermill.LogFields) {
	l.log.Debug(msg, append(attributes(f), "err", err)...)
}
func (l watermillLog) Info(msg string, f watermill.LogFields) { l.log.Debug(msg, attributes(f)...) }
func (l watermillLog) Debug(string, watermill.LogFields)      {}
func (l watermillLog) Trace(string, watermill.LogFields)      {}
func (l watermillLog) With(f watermill.LogFields) watermill.LoggerAdapter {
	return watermillLog{l.log.With(attributes(f)...)}
}

func attributes(f watermill.LogFields) []any {
	list := make([]any, 0, 2*len(f))
	for k, v := range f {
		list = append(list, k, v)
	}
	return list
}
