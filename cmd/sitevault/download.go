package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/client"
)

const downloadHelp = `Download the archives of a good backup. Each is proven by its size and its CRC64NVME checksum before it gets its name;
until then it ends in .part, and a download that was interrupted goes on from there.`

const downloadExample = `  sitevault backup download shop@latest
  sitevault backup download 01JD3Z8Q7V5X2M4N6P8R0S1T2V --provider database --dir /restore`

func (p *program) backupDownloadCommand() *cobra.Command {
	var providers []string
	var dir string
	cmd := p.onJob(&cobra.Command{
		Use: "download BACKUP", Short: "Download the archives of a backup, with proof", Long: downloadHelp, Example: downloadExample,
	}, newestGood, func(ctx context.Context, c *client.Client, id string) error {
		return p.download(ctx, c, id, providers, dir)
	})
	cmd.Flags().StringSliceVar(&providers, "provider", nil, "only the file of this provider (repeatable; default: all)")
	cmd.Flags().StringVar(&dir, "dir", ".", "folder to download into; made if it does not exist")
	if err := cmd.MarkFlagDirname("dir"); err != nil {
		panic(err)
	}
	return cmd
}

func (p *program) download(ctx context.Context, c *client.Client, id string, providers []string, dir string) error {
	if len(providers) == 0 {
		job, _, err := c.Backup(ctx, id)
		if err != nil {
			return err
		}
		providers = fileNames(job)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	slices.Sort(providers)
	files, err := p.downloadAll(ctx, c, id, slices.Compact(providers), dir)
	if err != nil {
		return err
	}
	return showAll(p, downloadColumns, files)
}

func (p *program) downloadAll(ctx context.Context, c *client.Client, id string, providers []string, dir string) (files []client.Downloaded, err error) {
	show := p.watcher()
	defer func() { err = errors.Join(err, show.close()) }()
	files = make([]client.Downloaded, 0, len(providers))
	for _, provider := range providers {
		file, err := c.Download(ctx, id, provider, dir, func(done, total int64) { show.download(provider, done, total) })
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

var downloadColumns = columns[client.Downloaded]{
	{"FILE", func(d client.Downloaded) string { return d.Path }},
	{"SIZE", func(d client.Downloaded) string { return size(d.SizeBytes) }},
	{"CRC64NVME", func(d client.Downloaded) string { return d.CRC64NVME }},
	{"PROVEN", func(d client.Downloaded) string {
		words := []string{"size and checksum"}
		if d.ResumedBytes == d.SizeBytes {
			words = append(words, "(was here already)")
		} else if d.ResumedBytes > 0 {
			words = append(words, fmt.Sprintf("(%s were here already)", size(d.ResumedBytes)))
		}
		return strings.Join(words, " ")
	}},
}
