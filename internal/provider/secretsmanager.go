package provider

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/sitevault/sitevault/internal/backup"
)

const (
	// secretLife is how long a process goes on with a secret that it has read, unless the provider refuses it: a replaced
	// secret counts everywhere this long after it was replaced.
	secretLife = 5 * time.Minute
	// maxCachedSecrets bounds what a process keeps in memory.
	maxCachedSecrets = 1000
)

// SecretsManager reads secrets from AWS Secrets Manager under the names <prefix>/<userID>/<ref>. It asks for a secret
// once in five minutes, and again at once for one that was not there or that a provider refused. It is safe for
// concurrent use.
type SecretsManager struct {
	client *secretsmanager.Client
	prefix string
	now    func() time.Time

	mu     sync.Mutex
	cached map[string]cachedSecret
}

type cachedSecret struct {
	value string
	until time.Time
}

var _ Secrets = (*SecretsManager)(nil)

// NewSecretsManager reads secrets under the prefix, which has no slash at its end.
func NewSecretsManager(client *secretsmanager.Client, prefix string, now func() time.Time) *SecretsManager {
	return &SecretsManager{client: client, prefix: prefix, now: now, cached: map[string]cachedSecret{}}
}

// Authorization is the header's value as AuthorizationValue makes it from the secret's text.
func (s *SecretsManager) Authorization(ctx context.Context, userID, ref string) (string, error) {
	if err := checkName(userID, ref); err != nil {
		return "", err
	}
	name := s.name(userID, ref)
	if value, ok := s.recall(name); ok {
		return value, nil
	}
	content, err := s.read(ctx, name)
	if err != nil {
		return "", fmt.Errorf("secret %s of user %s: %w", ref, userID, err)
	}
	value := AuthorizationValue(content)
	s.keep(name, value)
	return value, nil
}

func (s *SecretsManager) name(userID, ref string) string { return s.prefix + "/" + userID + "/" + ref }

// Forget implements Secrets.
func (s *SecretsManager) Forget(userID, ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cached, s.name(userID, ref))
}

func (s *SecretsManager) read(ctx context.Context, name string) (string, error) {
	out, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &name})
	_, absent := errors.AsType[*types.ResourceNotFoundException](err)
	// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html (read 2026-11): also for a
	// secret that waits for its deletion.
	_, deleted := errors.AsType[*types.InvalidRequestException](err)
	switch {
	case absent || deleted:
		return "", backup.E(backup.SecretMissing, "not stored")
	case err != nil:
		return "", err
	case out.SecretString == nil:
		return "", backup.E(backup.SecretMissing, "stored as bytes, not as text")
	case len(*out.SecretString) > MaxSecretBytes:
		return "", fmt.Errorf("longer than %d bytes", MaxSecretBytes)
	}
	return *out.SecretString, nil
}

func (s *SecretsManager) recall(name string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, ok := s.cached[name]
	return secret.value, ok && s.now().Before(secret.until)
}

func (s *SecretsManager) keep(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cached) >= maxCachedSecrets {
		clear(s.cached)
	}
	s.cached[name] = cachedSecret{value: value, until: s.now().Add(secretLife)}
}
