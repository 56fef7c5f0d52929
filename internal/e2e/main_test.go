package e2e_test

import (
	"os"
	"testing"

	"github.com/sitevault/sitevault/internal/e2e"
)

func TestMain(m *testing.M) {
	e2e.ServeIfAsked()
	os.Exit(m.Run())
}
