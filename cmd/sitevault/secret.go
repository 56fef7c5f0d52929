package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/provider"
	"github.com/sitevault/sitevault/internal/secretfile"
)

const secretHelp = `A secret is the value of the Authorization header that the service sends to a site's export: a bare token, or a value
with its scheme, such as "Basic dXNlcjpwYXNz". Sites name it: --provider files=URL,secret=NAME.

These commands write to the data folder of the service on this machine, where only its owner can read them. A running
service takes a new value up at once. The value is never given on the command line.

With sign-in each user has secrets of their own, under the user's id: --user "$(sitevault user-id SUBJECT)", where SUBJECT
is what the claim sub of the user's tokens says.`

const secretPutExample = `  (umask 077; openssl rand -hex 32 > token) && sitevault secret put shop < token
  sitevault secret put shop --file token`

// secrets is where the secrets of one user lie.
type secrets struct{ data, user string }

func (s secrets) dir() string { return filepath.Join(s.data, "secrets", s.user) }

func (p *program) secretCommand() *cobra.Command {
	s := &secrets{}
	commands := []*cobra.Command{p.secretPutCommand(s), p.secretListCommand(s), p.secretDeleteCommand(s)}
	for _, c := range commands {
		p.dataFlag(c, &s.data)
		c.Flags().StringVar(&s.user, "user", backup.LocalUser, "id of the user whose secret it is; with sign-in: what sitevault user-id prints")
	}
	return groupCommand(&cobra.Command{Use: "secret", Short: "Keep the secrets that open a site's exports", Long: secretHelp}, commands...)
}

func (p *program) secretPutCommand(s *secrets) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "put NAME", Short: "Store a secret, read from standard input or a file", Long: secretHelp, Example: secretPutExample, Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			value, err := p.readSecret(file)
			if err != nil {
				return err
			}
			return s.put(args[0], value)
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "file that holds the value (default: standard input)")
	return cmd
}

func (p *program) readSecret(file string) ([]byte, error) {
	value, err := p.secretContent(file)
	if err != nil {
		return nil, err
	}
	value = bytes.TrimRight(value, "\r\n")
	switch {
	case len(value) == 0:
		return nil, usage("the secret is empty")
	case len(value) > provider.MaxSecretBytes:
		return nil, usage("the secret has more than %d bytes", provider.MaxSecretBytes)
	case bytes.ContainsAny(value, "\r\n\x00"):
		return nil, usage("the secret has more than one line; a header's value has one")
	}
	return value, nil
}

func (p *program) secretContent(file string) ([]byte, error) {
	if file != "" {
		value, err := secretfile.Read(file, provider.MaxSecretBytes)
		if err != nil {
			return nil, usage("--file: %w", err)
		}
		return value, nil
	}
	if p.terminal(p.in) {
		fmt.Fprintln(p.err, "Type the secret, then Enter and Ctrl-D. What you type is shown.")
	}
	value, err := io.ReadAll(io.LimitReader(p.in, provider.MaxSecretBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the secret: %w", err)
	}
	return value, nil
}

// put replaces the file in one step, so that a running service reads the old value or the new one.
func (s secrets) put(name string, value []byte) error {
	if err := s.check(name); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir(), 0o700); err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	temporary, err := os.CreateTemp(s.dir(), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	defer os.Remove(temporary.Name()) // gone after the rename
	_, err = temporary.Write(value)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), filepath.Join(s.dir(), name))
	}
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	return nil
}

func (s secrets) check(name string) error {
	if s.data == "" {
		return usage("no data folder: give --data, since neither XDG_DATA_HOME nor HOME is set")
	}
	if !backup.ValidUserID(s.user) {
		return usage("--user %q is not a user's id: give what sitevault user-id prints for the subject of the user's tokens", s.user)
	}
	if !backup.ValidSecretRef(name) {
		return usage("secret name %q: use 1 to 63 lower-case letters, digits and hyphens, starting with a letter or digit", name)
	}
	return nil
}

func (p *program) secretListCommand(s *secrets) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the names of the secrets", Args: arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			names, err := s.names()
			if err != nil {
				return err
			}
			return showAll(p, columns[string]{{"NAME", func(name string) string { return name }}}, names)
		},
	}
}

func (s secrets) names() ([]string, error) {
	if err := s.check("any"); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list secrets: %w", err)
	}
	names := []string{}
	for _, e := range entries {
		if backup.ValidSecretRef(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (p *program) secretDeleteCommand(s *secrets) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a secret; backups of sites that name it fail from now on", Args: arguments(1, 1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			names, err := s.names()
			if err != nil || len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error { return s.delete(args[0]) },
	}
}

func (s secrets) delete(name string) error {
	if err := s.check(name); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(s.dir(), name))
	if errors.Is(err, fs.ErrNotExist) {
		return &notFoundError{"there is no secret " + name + " in " + s.dir()}
	}
	return err
}
