package verify

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/orderflow/messaging/messagingtest"
	shopservices "example.com/orderflow/services/internal/shop"
)

// While customers are at it, what must hold always is looked at again and again;
// then everything, at rest.
func TestAShopAtWorkAndAtRestIsClean(t *testing.T) {
	t.Parallel()
	settings, endpoint := channels(t)
	settings["INVENTORY_SHORT"], settings["INVENTORY_LOSES"] = "MUG-02=1", "KETTLE-01"
	s := openShop(t, settings)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var looking sync.WaitGroup
	looks := 0
	looking.Go(func() {
		for pause := time.NewTicker(50 * time.Millisecond); ctx.Err() == nil; looks++ {
			<-pause.C
			r, err := Run(t.Context(), s.db.Admin, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			clean(t, r)
		}
	})
	live(s, endpoint)
	cancel()
	looking.Wait()
	if looks < 5 {
		t.Errorf("looked %d times at the shop at work, want more", looks)
	}
	clean(t, s.verify(Options{Rest: true}))
	t.Run("the same over the provider's API", func(t *testing.T) {
		clean(t, s.verify(Options{Rest: true, Provider: Provider{URL: s.urls["paysim"], Key: providerKey}}))
	})
	s.close()
	t.Logf("clean at %d moments at work, and at rest: %d checks", looks, len(Checks()))
	plantAll(t, s.db)
}

func TestChecksThatNeedBooksAreSkippedWithoutThem(t *testing.T) {
	t.Parallel()
	specs := shopservices.Specs()
	for i, spec := range specs {
		if spec.Name == "paysim" {
			specs = append(specs[:i], specs[i+1:]...)
			break
		}
	}
	db := messagingtest.NewDB(t, specs...)
	r, err := Run(t.Context(), db.Admin, Options{Rest: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.Skipped() != len(bookChecks) || r.Found() != 0 {
		t.Errorf("got %d checks skipped and %d findings, want %d and none:\n%s", r.Skipped(), r.Found(), len(bookChecks), describe(r))
	}
}

func TestAProviderThatDoesNotAnswerIsAnError(t *testing.T) {
	t.Parallel()
	db := messagingtest.NewDB(t, shopservices.Specs()...)
	_, err := Run(t.Context(), db.Admin, Options{Provider: Provider{URL: "http://127.0.0.1:1", Key: "secret"}})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error that doesn't show the key", err)
	}
}

// Every check says what must hold and, unless it is for a shop at rest, why it does
// at every moment.
func TestChecksExplainThemselves(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range Checks() {
		if seen[c.Name] || c.Says == "" || (c.When == Always) != (c.Holds != "") || !strings.Contains(c.Name, "/") {
			t.Errorf("check %s: named twice, says nothing, or does not say why it holds", c.Name)
		}
		seen[c.Name] = true
	}
}
