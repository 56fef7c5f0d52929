// Command lambdazip packs built functions as Lambda takes them: each program of a folder into an archive of its name that
// holds it as "bootstrap". The same programs make the same archives, byte by byte, so that only what has changed is
// deployed.
package main

import (
	"archive/zip"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

func main() {
	from := flag.String("from", "", "folder of the built programs")
	to := flag.String("to", "", "folder for the archives")
	flag.Parse()
	if err := packAll(*from, *to); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func packAll(from, to string) error {
	programs, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if len(programs) == 0 {
		return fmt.Errorf("%s holds no programs", from)
	}
	for _, p := range programs {
		if err := pack(filepath.Join(from, p.Name()), filepath.Join(to, p.Name()+".zip")); err != nil {
			return fmt.Errorf("pack %s: %w", p.Name(), err)
		}
	}
	return nil
}

// bootstrap is the program that the runtime provided.al2023 starts.
const bootstrap = "bootstrap"

// zipEpoch is the earliest time that a zip archive can hold.
var zipEpoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

func pack(program, archive string) (err error) {
	in, err := os.Open(program)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
	}()
	w := zip.NewWriter(out)
	header := &zip.FileHeader{Name: bootstrap, Method: zip.Deflate, Modified: zipEpoch}
	header.SetMode(0o755)
	entry, err := w.CreateHeader(header)
	if err != nil {
		return err
	}
	if _, err := io.Copy(entry, in); err != nil {
		return err
	}
	return w.Close()
}
