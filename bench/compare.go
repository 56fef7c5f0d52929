package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
)

// figures are one run of one peer.
type figures struct {
	wall      time.Duration
	cpu       time.Duration // of the client's processes, user and system
	peakBytes int64         // resident, of the largest process
}

// peer is a way to get an export into the storage.
type peer struct {
	name string
	run  func(ctx context.Context, export string) (figures, error)
}

// compare runs every peer in turn, so that a change of the machine's speed meets all of them.
func compare(ctx context.Context, s settings, store *storage, dir string, size int64) error {
	export, stop, err := startExport(ctx, size)
	if err != nil {
		return err
	}
	defer stop()
	peers := []peer{
		{"sitevault", sitevaultPeer(s, store, dir)},
		{"rclone copyurl", rclonePeer(s, store)},
	}
	if found("aws") {
		peers = append(peers, peer{"aws s3 cp -", awsPeer(store, size)})
	}
	results := make([][]figures, len(peers))
	for round := range s.rounds {
		for i, p := range peers {
			fmt.Fprintf(os.Stderr, "%d GiB, round %d of %d: %s\n", size/gib, round+1, s.rounds, p.name)
			f, err := p.run(ctx, export)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			results[i] = append(results[i], f)
			if err := store.clear(ctx); err != nil {
				return err
			}
		}
	}
	printComparison(size, peers, results)
	return nil
}

func printComparison(size int64, peers []peer, results [][]figures) {
	wall := func(f figures) float64 { return f.wall.Seconds() }
	cpu := func(f figures) float64 { return f.cpu.Seconds() * float64(gib) / float64(size) }
	peak := func(f figures) float64 { return float64(f.peakBytes) / (1 << 20) }
	t := table.NewWriter()
	t.SetTitle("%d GiB, median of %d rounds; ratios are to rclone, round by round", size/gib, len(results[0]))
	t.AppendHeader(table.Row{"", "wall s", "client CPU s/GiB", "peak MiB", "wall ratio", "CPU ratio"})
	for i, p := range peers {
		t.AppendRow(table.Row{
			p.name, show(median(results[i], wall)), show(median(results[i], cpu)), fmt.Sprintf("%.0f", median(results[i], peak)),
			show(medianRatio(results[i], results[1], wall)), show(medianRatio(results[i], results[1], cpu)),
		})
	}
	fmt.Println(t.Render())
}

func show(v float64) string { return fmt.Sprintf("%.2f", v) }

func median(fs []figures, of func(figures) float64) float64 {
	values := make([]float64, len(fs))
	for i, f := range fs {
		values[i] = of(f)
	}
	return middle(values)
}

func medianRatio(a, b []figures, of func(figures) float64) float64 {
	values := make([]float64, len(a))
	for i := range a {
		values[i] = of(a[i]) / of(b[i])
	}
	return middle(values)
}

func middle(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// finish waits for a process and reads the kernel's account of it.
func finish(cmd *exec.Cmd, started time.Time) (figures, error) {
	err := cmd.Wait()
	f := figures{wall: time.Since(started), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		f.peakBytes = usage.Maxrss << 10 // Linux counts KiB
	}
	return f, err
}

func rclonePeer(s settings, store *storage) func(context.Context, string) (figures, error) {
	return func(ctx context.Context, export string) (figures, error) {
		cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "rclone"), "copyurl", export, ":s3:"+bucket+"/rclone.zip")
		cmd.Env, cmd.Stderr = store.environment(), os.Stderr
		started := time.Now()
		if err := cmd.Start(); err != nil {
			return figures{}, err
		}
		return finish(cmd, started)
	}
}

// awsPeer pipes the export into the AWS client; pulling it is done here and not charged to it.
func awsPeer(store *storage, size int64) func(context.Context, string) (figures, error) {
	return func(ctx context.Context, export string) (figures, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, export, nil)
		if err != nil {
			return figures{}, err
		}
		started := time.Now()
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return figures{}, err
		}
		defer response.Body.Close()
		cmd := exec.CommandContext(ctx, "aws", "--endpoint-url", store.Endpoint(), "s3", "cp", "-", "s3://"+bucket+"/aws.zip",
			"--expected-size", fmt.Sprint(size), "--only-show-errors")
		cmd.Env, cmd.Stderr, cmd.Stdin = store.environment(), os.Stderr, response.Body
		if err := cmd.Start(); err != nil {
			return figures{}, err
		}
		return finish(cmd, started)
	}
}
