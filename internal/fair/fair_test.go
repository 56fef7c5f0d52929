package fair_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/fair"
)

func granted(c *fair.Claim) bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return c.Wait(ctx) == nil
}

// A user with a thousand claims delays another's single one until the first of them is dropped, and no longer.
func TestOneAmongThousand(t *testing.T) {
	for _, size := range []int{1, 16} {
		room := fair.NewRoom(size, 0)
		var many []*fair.Claim
		for range 1000 {
			many = append(many, room.Claim("many", 1, fair.New))
		}
		one := room.Claim("one", 1, fair.New)
		if granted(one) || !granted(many[size-1]) || granted(many[size]) {
			t.Fatalf("room for %d: granted to more or less", size)
		}
		many[0].Drop()
		if !granted(one) || granted(many[size]) {
			t.Errorf("room for %d: the first that was dropped was not for the user who held nothing", size)
		}
		one.Drop()
		if !granted(many[size]) {
			t.Errorf("room for %d: nobody follows", size)
		}
	}
}

// Users who hold as much as each other are served in turn, whoever comes back how often.
func TestUsersTakeTurns(t *testing.T) {
	room := fair.NewRoom(1, 0)
	held := room.Claim("first", 1, fair.New)
	waiting := map[string]*fair.Claim{}
	for _, name := range []string{"a", "b", "c"} {
		waiting[name] = room.Claim(name, 1, fair.New)
	}
	var order string
	for range 9 {
		held.Drop()
		for name, c := range waiting {
			if granted(c) {
				order, held = order+name, c
				waiting[name] = room.Claim(name, 1, fair.New)
				break
			}
		}
	}
	if order != "abcabcabc" {
		t.Errorf("served in the order %s", order)
	}
}

// Of one user, neither claims that come again and again nor new ones starve the other kind, and each line is kept.
func TestLinesTakeTurns(t *testing.T) {
	room := fair.NewRoom(1, 0)
	held := room.Claim("user", 1, fair.New)
	waiting := map[int]*fair.Claim{}
	for i := range 8 {
		waiting[i] = room.Claim("user", 1, fair.Line(i/4)) // 0..3 are new, 4..7 come again
	}
	var order []int
	for range 8 {
		held.Drop()
		for i, c := range waiting {
			if granted(c) {
				order, held = append(order, i), c
				delete(waiting, i)
			}
		}
	}
	if fmt.Sprint(order) != "[4 0 5 1 6 2 7 3]" {
		t.Errorf("served in the order %v", order)
	}
}

// A claim that is larger than what is free is not overtaken by smaller ones, and no claim grows while one waits.
func TestLargeClaimIsNotOvertaken(t *testing.T) {
	room := fair.NewRoom(4, 0)
	small := room.Claim("small", 2, fair.New)
	if !small.Grow() {
		t.Fatal("there was room to grow")
	}
	large := room.Claim("large", 4, fair.New)
	late := room.Claim("late", 1, fair.New)
	if granted(large) || granted(late) || small.Grow() {
		t.Fatal("overtaken")
	}
	small.Shrink(1)
	small.Drop()
	if !granted(large) || granted(late) {
		t.Error("the large claim was not next")
	}
	large.Drop()
	if !granted(late) {
		t.Error("the late claim does not follow")
	}
}

// A claim that is given up while it waits tells why and makes way.
func TestWaitEnds(t *testing.T) {
	room := fair.NewRoom(1, 0)
	held := room.Claim("a", 1, fair.New)
	given, behind := room.Claim("b", 1, fair.New), room.Claim("b", 1, fair.New)
	why := errors.New("cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := given.Wait(ctx); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	given.Drop()
	given.Drop()
	held.Drop()
	if !granted(behind) {
		t.Error("the claim behind was not granted")
	}
}

// Whatever is claimed, grown, shrunk and dropped in whatever order: no more is held than there is, no user waits while the
// room lies idle, and in the end all of it is there.
func TestRoomIsNeitherLostNorMade(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(2, 6).Draw(t, "size")
		room := fair.NewRoom(size, rapid.IntRange(0, size/2).Draw(t, "reserve"))
		sizes := map[*fair.Claim]int{}
		var claims []*fair.Claim
		draw := func() *fair.Claim { return claims[rapid.IntRange(0, len(claims)-1).Draw(t, "which")] }
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 4).Draw(t, "op"); {
			case op <= 1 || len(claims) == 0:
				n := rapid.IntRange(1, 2).Draw(t, "n")
				c := room.Claim(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "user"), n, fair.Line(rapid.IntRange(0, 1).Draw(t, "line")))
				claims, sizes[c] = append(claims, c), n
			case op == 2:
				c := draw()
				c.Drop()
				sizes[c] = 0
			case op == 3:
				if c := draw(); sizes[c] > 0 && granted(c) && c.Grow() {
					sizes[c]++
				}
			default:
				if c := draw(); sizes[c] > 1 && granted(c) {
					c.Shrink(1)
					sizes[c]--
				}
			}
			held, waiting := 0, 0
			for c, n := range sizes {
				switch {
				case n > 0 && granted(c):
					held += n
				case n > 0:
					waiting++
				}
			}
			if held > size || (waiting > 0 && held == 0) {
				t.Fatalf("%d of %d are held while %d claims wait", held, size, waiting)
			}
		}
		for _, c := range claims {
			c.Drop()
		}
		if !granted(room.Claim("all", size, fair.New)) {
			t.Fatal("not all of the room came back")
		}
	})
}

// The reserve is for users who hold nothing, one after the other.
func TestReserve(t *testing.T) {
	room := fair.NewRoom(4, 1)
	var many []*fair.Claim
	for range 4 {
		many = append(many, room.Claim("many", 1, fair.New))
	}
	if !granted(many[2]) || granted(many[3]) {
		t.Fatal("the reserve was not kept, or too much of it")
	}
	one, two := room.Claim("one", 1, fair.New), room.Claim("two", 1, fair.New)
	if !granted(one) || granted(two) {
		t.Error("the reserve was not there for the first that held nothing")
	}
	one.Drop()
	if !granted(two) || granted(many[3]) {
		t.Error("the reserve was not there for the second that held nothing")
	}
	many[0].Drop()
	if granted(many[3]) {
		t.Error("the reserve was not filled again first")
	}
	two.Drop()
	if !granted(many[3]) {
		t.Error("the user with many claims does not follow")
	}
}

// Many at once never hold more than there is, and each gets its turn.
func TestRoomAtOnce(t *testing.T) {
	room := fair.NewRoom(3, 0)
	var work sync.WaitGroup
	var held, most atomic.Int64
	for i := range 60 {
		work.Go(func() {
			for n := range 20 {
				c := room.Claim(fmt.Sprint("user-", i%5), 1, fair.Line(n%2))
				if err := c.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				for now := held.Add(1); now > most.Load(); {
					most.Store(now)
				}
				held.Add(-1)
				c.Drop()
			}
		})
	}
	work.Wait()
	if most.Load() > 3 {
		t.Errorf("%d held room for 3", most.Load())
	}
}
