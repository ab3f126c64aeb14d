package verify

import (
	"testing"

	"example.com/orderflow/messaging/messagingtest"
)

func plantAll(t *testing.T, db *messagingtest.DB) {}
