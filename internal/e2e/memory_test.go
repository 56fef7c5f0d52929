package e2e_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
)

// peakBytes is far above what the service takes and far below what a site has.
const peakBytes = 120 << 20 * raceFactor

// memoryOf reads a line of what the system tells of a process, such as VmHWM, the most memory that it ever had.
func memoryOf(t *testing.T, p *e2e.Process, name string) (sizeBytes int64) {
	t.Helper()
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Skipf("the system does not tell: %v", err)
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(lines.Text(), name+": %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatalf("%s is not told", name)
	return 0
}

// underPeak checks the most memory that the process ever had.
func underPeak(t *testing.T, p *e2e.Process, limitBytes int64) {
	t.Helper()
	peak := memoryOf(t, p, "VmHWM")
	if t.Logf("peak memory: %d MiB", peak>>20); peak > limitBytes {
		t.Errorf("peak memory is %d MiB, more than %d", peak>>20, limitBytes>>20)
	}
}

// Memory does not grow with the site: half a GiB moves through a process that never has more than a fraction of it.
func TestMemoryIsFlat(t *testing.T) {
	t.Parallel()
	storage := e2e.NewStorage(t)
	p := e2e.StartProcess(t, storage)
	export := e2e.NewExport(t, 1, 32)
	p.PutSite("shop", e2e.Exports{"files": export})
	jobID := p.Create("shop")
	p.Await(jobID, backup.Done)
	p.Same(jobID, "files", export.Content)
	underPeak(t, p, peakBytes)
}

// Sixteen backups of forty ranges each meet a storage that takes nothing: together they fill no more than the budget, and
// when they are over the memory is given back.
func TestMemoryIsBoundedOverJobs(t *testing.T) {
	const jobs, mostBytes, idleBytes = 16, 300 << 20 * raceFactor, 100 << 20 * raceFactor
	storage := e2e.NewStorage(t)
	p := e2e.StartProcess(t, storage)
	stalled := storage.Stall(func(r *http.Request) bool { return strings.HasPrefix(e2e.Kind(r), "UploadPart") })
	var ids []string
	for i := range jobs {
		site := fmt.Sprint("site-", i)
		p.PutWideSite(site, e2e.Exports{"files": e2e.NewExport(t, uint64(i), backup.MaxParallelism)})
		ids = append(ids, p.Create(site))
	}
	e2e.Eventually(t, "the storage stalls many parts", func() bool { return stalled.Hits() >= 50 })
	for began := time.Now(); time.Since(began) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
		if now := memoryOf(t, p, "VmRSS"); now > mostBytes {
			t.Fatalf("%d MiB while %d parts are stalled", now>>20, stalled.Hits())
		}
	}
	t.Logf("%d MiB while %d parts are stalled", memoryOf(t, p, "VmRSS")>>20, stalled.Hits())
	for _, id := range ids {
		p.Act(id, "cancel")
	}
	over := time.Now()
	e2e.Eventually(t, "the memory is given back", func() bool { return memoryOf(t, p, "VmRSS") < idleBytes })
	t.Logf("given back after %v", time.Since(over))
	underPeak(t, p, mostBytes)
}
