package verify

import (
	"testing"

	"go.uber.org/goleak"

	"example.com/orderflow/messaging/messagingtest"
)

func TestMain(m *testing.M) {
	// The mail server of the tests closes its connections some time after its end.
	messagingtest.Main(m, goleak.IgnoreAnyFunction("github.com/mocktools/go-smtp-mock/v2.(*Server).Start.func1"))
}
