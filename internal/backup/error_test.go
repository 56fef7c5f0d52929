package backup_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sitevault/sitevault/internal/backup"
)

// The list is closed: a constant without an entry would have no sentence and could not be told from an unknown name.
func TestKindsAreClosed(t *testing.T) {
	declared := declaredKinds(t)
	if got := backup.Kinds(); !slices.Equal(got, declared) {
		t.Errorf("listed   %v\ndeclared %v", got, declared)
	}
	sentences := map[string]backup.Kind{}
	for _, k := range backup.Kinds() {
		s := k.Sentence()
		if len(s) < 10 || !strings.HasSuffix(s, ".") || strings.ToUpper(s[:1]) != s[:1] {
			t.Errorf("%s has the sentence %q", k, s)
		}
		if other, taken := sentences[s]; taken {
			t.Errorf("%s and %s have the same sentence", k, other)
		}
		sentences[s] = k
		if !k.Known() {
			t.Errorf("%s is not known", k)
		}
	}
	if unknown := backup.Kind("States.Timeout"); unknown.Known() || unknown.Retryable() || unknown.Sentence() != "" {
		t.Error("a name of the platform passes for a kind")
	}
}

func declaredKinds(t *testing.T) []backup.Kind {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []backup.Kind
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Kind" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil || value != spec.Names[0].Name {
				t.Errorf("constant %s has the value %s", spec.Names[0].Name, value)
			}
			kinds = append(kinds, backup.Kind(value))
		}
		return true
	})
	slices.Sort(kinds)
	return kinds
}

// The list is append-only: rows, clients and the state machine know these names.
func TestKindsAreKept(t *testing.T) {
	for _, k := range strings.Fields(`
		AddressForbidden ArchiveInvalid BatchUnfinished Cancelled ChecksumMismatch Conflict ExportEmpty ExportTooLarge
		IdempotencyReuse IllegalState Internal InvalidRequest NotFound NotRetryable ProviderChanged ProviderEncoded
		ProviderLongBody ProviderNoRanges ProviderNotFound ProviderPreparing ProviderRedirected ProviderRefused
		ProviderShortBody ProviderTimeout ProviderUnavailable ProviderUnexpected ProviderUnpinned ProviderUnsized
		ProviderWrongRange SecretMissing SiteBusy StaleAttempt StorageRefused StorageUnavailable StoreUnavailable TimedOut
		Unauthenticated UploadLost ChecksumMissing StorageFull UploadConflict`) {
		if !backup.Kind(k).Known() {
			t.Errorf("%s is gone", k)
		}
	}
}

// What the documents call a kind is one.
func TestKindsInDocuments(t *testing.T) {
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(documents) == 0 {
		t.Skip("there are no documents to look at")
	}
	named := regexp.MustCompile("`((?:Provider|Export|Storage|Store|Archive|Upload|Checksum)(?:[A-Z][a-z]+)+)`")
	ownNames := []string{"UploadParts", "UploadFiles", "UploadFile", "UploadPart", "ExportRangeUpload", "ProviderSeconds", "ExportBytes"} // states, tasks, metrics
	for _, path := range documents {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			if !backup.Kind(m[1]).Known() && !slices.Contains(ownNames, m[1]) && !strings.HasSuffix(m[1], "TaskCreated") && !strings.HasSuffix(m[1], "TaskFinished") {
				t.Errorf("%s names `%s`, which is no kind", filepath.Base(path), m[1])
			}
		}
	}
}

// The kind of an error is the outermost one's.
func TestKindOf(t *testing.T) {
	inner := backup.E(backup.ProviderTimeout, "no answer")
	for _, tc := range []struct {
		err  error
		want backup.Kind
	}{
		{nil, ""},
		{errors.New("something"), backup.Internal},
		{context.Canceled, backup.Internal},
		{inner, backup.ProviderTimeout},
		{fmt.Errorf("upload part 7: %w", inner), backup.ProviderTimeout},
		{backup.E(backup.StorageUnavailable, "upload part 7: %w", inner), backup.StorageUnavailable},
		{errors.Join(inner, backup.E(backup.StorageUnavailable, "abort")), backup.ProviderTimeout},
	} {
		if got := backup.KindOf(tc.err); got != tc.want {
			t.Errorf("%v: kind %q, want %q", tc.err, got, tc.want)
		}
		if !backup.Is(tc.err, tc.want) {
			t.Errorf("%v is not %q", tc.err, tc.want)
		}
	}
	if err := backup.E(backup.Internal, "read: %w", context.Canceled); !errors.Is(err, context.Canceled) || err.Error() != "read: context canceled" {
		t.Errorf("%v hides its cause", err)
	}
}

// A failure's detail is bounded and stays valid text.
func TestNewFailureBoundsDetail(t *testing.T) {
	for _, detail := range []string{"", "short", strings.Repeat("a", 2000), strings.Repeat("é", 2000), "a" + strings.Repeat("é", 2000), "bad \xff byte"} {
		f := backup.NewFailure(backup.Internal, "files", detail, epoch)
		if len(f.Detail) > 1000 || !utf8.ValidString(f.Detail) || !strings.HasPrefix(f.Detail, detail[:min(len(detail), 3)]) {
			t.Errorf("%.20q becomes %d bytes, valid: %t", detail, len(f.Detail), utf8.ValidString(f.Detail))
		}
	}
}
