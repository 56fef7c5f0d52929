package transfer

import (
	"context"

	"github.com/sitevault/sitevault/internal/fair"
)

// Whole tells whether nobody holds any of a budget that has the least size.
func (b *Budget) Whole() bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	all := b.room.Claim("test", LeastBudgetBytes/chunkBytes, fair.New)
	defer all.Drop()
	return all.Wait(ctx) == nil
}

// SpareBytes is what the budget keeps and nobody holds.
func (b *Budget) SpareBytes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.spare) * chunkBytes
}
