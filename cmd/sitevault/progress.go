package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/client"
)

func (p *program) backupWatchCommand() *cobra.Command {
	return p.onJob(&cobra.Command{
		Use: "watch BACKUP", Short: "Show a backup's progress until it is over",
		Long:    "Show a backup's progress until it is over: bars on a terminal, else one JSON line for each change.\nThe exit code is 3 if the backup has failed.",
		Example: "  sitevault backup watch shop@latest\n  sitevault backup watch shop@latest -o jsonl | jq .progress",
	}, newestAny, p.watch)
}

// watch shows a backup until it is over; *backupFailed if that is not well.
func (p *program) watch(ctx context.Context, c *client.Client, id string) error {
	show := p.watcher()
	job, err := c.Watch(ctx, id, show.backup)
	if broken := show.close(); err == nil {
		err = broken
	}
	if err != nil {
		if errors.Is(err, context.Canceled) {
			fmt.Fprintf(p.err, "The backup goes on. Watch it again with: sitevault backup watch %s\n", id)
		}
		return err
	}
	return p.watched(job)
}

// watched tells how a backup ended.
func (p *program) watched(job api.BackupDetail) error {
	switch job.Status {
	case backup.Done:
		if p.outputFormat() == formatTable {
			fmt.Fprintf(p.out, "Backup %s of site %s is done: %s in %s, proven equal to the exports, kept until %s.\n",
				job.JobID, job.SiteID, humanize.IBytes(uint64(job.SizeBytes)), took(job.Backup), at(job.DeleteAt))
		}
		return nil
	case backup.Failed:
		fmt.Fprint(p.err, failureText(job))
		return &backupFailed{job.JobID}
	}
	fmt.Fprintf(p.err, "Backup %s is %s.\n", job.JobID, job.Status)
	return &backupFailed{job.JobID}
}

// shower shows how something gets on.
type shower interface {
	backup(api.BackupDetail)
	download(provider string, doneBytes, totalBytes int64)
	close() error // also tells what went wrong in between
}

func (p *program) watcher() shower {
	if p.outputFormat() != formatTable {
		return &jsonShower{out: p.out}
	}
	return p.personShower()
}

// personShower shows bars on a terminal and a line a second elsewhere.
func (p *program) personShower() shower {
	if p.terminal(p.err) {
		return newBars(p)
	}
	return &lineShower{out: p.err, now: p.now, lastErrors: lastErrors{}}
}

// jsonShower prints one JSON line for each change of a backup.
type jsonShower struct {
	out io.Writer
	err error
}

func (s *jsonShower) backup(job api.BackupDetail) {
	if err := printLine(s.out, job); s.err == nil {
		s.err = err
	}
}

func (s *jsonShower) download(string, int64, int64) {}
func (s *jsonShower) close() error                  { return s.err }

// lineEvery is the least time between two lines, unless the status changes.
const lineEvery = time.Second

// lastErrors remembers what was told of each file.
type lastErrors map[string]string

// news are the sentences on what has become the matter with a backup and its files since the last call.
func (t lastErrors) news(job api.BackupDetail) (lines []string) {
	whole := cmp.Or(nextTry(job.Backup), hinderedEnd(job.Backup))
	if t[""] != whole && whole != "" {
		lines = append(lines, whole)
	}
	t[""] = whole
	for _, f := range job.Files {
		detail := ""
		if f.LastError != nil {
			detail = f.LastError.Detail
		}
		if t[f.Name] != detail && detail != "" {
			lines = append(lines, fmt.Sprintf("%s: %s It is tried again. (%s)", plain(f.Name), plain(f.LastError.Message), plain(detail)))
		}
		t[f.Name] = detail
	}
	return lines
}

// nextTry is when and why the backup will be tried again by itself; "" if it does not wait for that.
func nextTry(job api.Backup) string {
	if job.NextTryAt == nil || job.LastError == nil {
		return ""
	}
	return fmt.Sprintf("try %d, next at %s: %s (%s)", job.Attempt, job.NextTryAt.Local().Format("15:04:05"), plain(job.LastError.Message), plain(job.LastError.Detail))
}

// failingCleanup is why what a failed or deleted backup has in the storage is still there; "" if nothing is known to be.
func failingCleanup(job api.Backup) string {
	if e := job.LastError; e != nil && (job.Status == backup.Failed || job.Status == backup.Deleting) {
		return fmt.Sprintf("fails since %s and is tried again: %s (%s)", atPointer(cmp.Or(e.Since, &e.At)), plain(e.Message), plain(e.Detail))
	}
	return ""
}

// hinderedEnd is what keeps a running backup from being done whose files all are; "" for any other.
func hinderedEnd(job api.Backup) string {
	e := job.LastError
	if job.Status != backup.Running || e == nil || job.StartedAt == nil || !e.At.After(*job.StartedAt) {
		return ""
	}
	return fmt.Sprintf("%s It is tried again. (%s)", plain(e.Message), plain(e.Detail))
}

// lineShower prints plain lines.
type lineShower struct {
	out        io.Writer
	now        func() time.Time
	last       time.Time
	seen       string
	lastErrors lastErrors
}

func (s *lineShower) backup(job api.BackupDetail) {
	for _, line := range s.lastErrors.news(job) {
		fmt.Fprintln(s.out, line)
	}
	if !s.due(fmt.Sprint(job.Status, job.Waiting != nil), client.Over(job.Status)) {
		return
	}
	g := job.Progress
	if job.Waiting != nil {
		fmt.Fprintf(s.out, "%-8s waiting for room since %s\n", job.Status, at(job.Waiting.Since))
		return
	}
	if g.TotalParts == 0 && !client.Over(job.Status) {
		fmt.Fprintf(s.out, "%-8s waiting for the exports\n", job.Status)
		return
	}
	fmt.Fprintf(s.out, "%-8s %s  %d of %d parts, %s of %s\n", job.Status, percent(g.Bytes, g.TotalBytes),
		g.Parts, g.TotalParts, humanize.IBytes(uint64(g.Bytes)), humanize.IBytes(uint64(g.TotalBytes)))
}

func (s *lineShower) download(provider string, done, total int64) {
	if s.due("download "+provider, done == total) {
		fmt.Fprintf(s.out, "download %s %s of %s\n", provider, percent(done, total), humanize.IBytes(uint64(total)))
	}
}

func (s *lineShower) close() error { return nil }

// due tells whether a line may be printed now: always when what it is about is new or at its end.
func (s *lineShower) due(subject string, end bool) bool {
	now := s.now()
	if subject == s.seen && !end && now.Sub(s.last) < lineEvery {
		return false
	}
	s.seen, s.last = subject, now
	return true
}

func percent(done, total int64) string {
	if total == 0 {
		return "  0%"
	}
	return fmt.Sprintf("%3d%%", int(float64(done)/float64(total)*100))
}

const (
	barEvery    = 100 * time.Millisecond
	barLength   = 24
	labelLength = 44
)

// bars shows one bar for each file.
type bars struct {
	writer     progress.Writer
	now        func() time.Time
	ended      chan struct{}
	trackers   map[string]*progress.Tracker
	rates      map[string]*rate
	lastErrors lastErrors
}

func newBars(p *program) *bars {
	w := progress.NewWriter()
	style := progress.StyleDefault
	style.Visibility = progress.StyleVisibility{Percentage: true, Tracker: true}
	if p.colors(p.err) {
		style.Colors.Tracker, style.Colors.Error = text.Colors{text.FgCyan}, text.Colors{text.FgRed}
	}
	style.Options.Separator, style.Options.PercentFormat, style.Options.PercentIndeterminate = " ", "%3.0f%%", "   ?"
	style.Options.DoneString, style.Options.ErrorString = "done", "failed"
	w.SetStyle(style)
	w.SetOutputWriter(p.err)
	w.SetUpdateFrequency(barEvery)
	w.SetTrackerLength(barLength)
	w.SetMessageLength(labelLength)
	w.SetTrackerPosition(progress.PositionRight)
	b := &bars{writer: w, now: p.now, ended: make(chan struct{}), trackers: map[string]*progress.Tracker{}, rates: map[string]*rate{}, lastErrors: lastErrors{}}
	go func() {
		defer close(b.ended)
		w.Render()
	}()
	return b
}

func (b *bars) backup(job api.BackupDetail) {
	for _, line := range b.lastErrors.news(job) {
		b.writer.Log("%s", line)
	}
	for _, f := range job.Files {
		note := fmt.Sprintf("%d/%d parts", f.Progress.Parts, f.Progress.TotalParts)
		switch backup.FileStatus(f.Status) {
		case backup.FileCompleting, backup.FileStored:
			note = "proving"
		}
		if f.Progress.TotalParts == 0 {
			note = "waiting for the export"
		}
		if job.Waiting != nil {
			note = "waiting for room"
		}
		t := b.set(f.Name, note, f.Progress.Bytes, f.Progress.TotalBytes)
		switch {
		case f.Status == string(backup.FileDone):
			t.MarkAsDone()
		case f.Status == string(backup.FileFailed), job.Status == backup.Failed:
			t.MarkAsErrored()
		}
	}
}

func (b *bars) download(provider string, done, total int64) {
	t := b.set(provider, humanize.IBytes(uint64(total)), done, total)
	if done == total {
		t.MarkAsDone()
	}
}

// set moves the bar of that name, which may be new.
func (b *bars) set(name, note string, done, total int64) *progress.Tracker {
	t := b.trackers[name]
	if t == nil || t.IsErrored() {
		t = &progress.Tracker{Message: name, AutoStopDisabled: true}
		b.trackers[name], b.rates[name] = t, &rate{}
		b.writer.AppendTracker(t)
	}
	label := fmt.Sprintf("%-12s %s", name, note)
	if done < total {
		label += b.rates[name].note(done, total, b.now())
	}
	t.UpdateMessage(label)
	t.UpdateTotal(total)
	t.SetValue(done)
	return t
}

// close draws the last state. The renderer takes no Stop before it has begun, so it is told until it ends.
func (b *bars) close() error {
	for {
		b.writer.Stop()
		select {
		case <-b.ended:
			return nil
		case <-time.After(time.Millisecond):
		}
	}
}

// rate smooths the speed of something that is reported now and then.
type rate struct {
	bytes          int64
	at             time.Time
	bytesPerSecond float64
	measurements   int
}

const (
	rateWeight = 0.3 // of the newest measurement
	rateLeast  = 200 * time.Millisecond
	rateTrust  = 3 // measurements before anybody is told
)

// note is the speed and about how long it will still take, once that is known.
func (r *rate) note(done, total int64, now time.Time) string {
	switch elapsed := now.Sub(r.at); {
	case r.at.IsZero():
		r.bytes, r.at = done, now
	case elapsed >= rateLeast:
		measured := float64(done-r.bytes) / elapsed.Seconds()
		if r.measurements++; r.measurements == 1 {
			r.bytesPerSecond = measured
		}
		r.bytesPerSecond += rateWeight * (measured - r.bytesPerSecond)
		r.bytes, r.at = done, now
	}
	if r.measurements < rateTrust || r.bytesPerSecond < 1 {
		return ""
	}
	left := time.Duration(float64(total-done) / r.bytesPerSecond * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf(" %s/s ~%s", humanize.IBytes(uint64(r.bytesPerSecond)), left)
}
