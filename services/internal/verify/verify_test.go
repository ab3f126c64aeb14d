package verify

import (
	"context"
	"sync"
	"testing"
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
		for ; ctx.Err() == nil; looks++ {
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
