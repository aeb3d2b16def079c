package memory_test

import (
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/memory"
	"github.com/duffy-broker/duffy-broker/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) broker.Store { return memory.New() })
}
