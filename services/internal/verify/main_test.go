package verify

import (
	"testing"

	"example.com/orderflow/messaging/messagingtest"
)

func TestMain(m *testing.M) { messagingtest.Main(m) }
