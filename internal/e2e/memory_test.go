package e2e_test

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
)

// peakBytes is far above what the service takes and far below what a site has.
const peakBytes = 120 << 20 * raceFactor

// underPeak checks the most memory that the process ever had, where the system tells.
func underPeak(t *testing.T, p *e2e.Process) {
	t.Helper()
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Logf("memory is not checked: %v", err)
		return
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &kib); n != 1 || !strings.HasPrefix(lines.Text(), "VmHWM") {
			continue
		}
		if t.Logf("peak memory: %d MiB", kib>>10); kib<<10 > peakBytes {
			t.Errorf("peak memory is %d MiB, more than %d", kib>>10, peakBytes>>20)
		}
		return
	}
	t.Error("the peak is not told")
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
	underPeak(t, p)
}
