package stacks_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/sitevault/sitevault/internal/dynamo"
)

// The bucket of the backups is private, encrypted under a key of its own and versioned, speaks TLS 1.2 and newer, keeps
// no unfinished uploads and moves nothing into storage classes that cost a minimum of days.
func TestBucket(t *testing.T) {
	d := synthesised(t, standard)
	bucket := named(t, d.data, "AWS::S3::Bucket", "Bucket")
	for name, got := range map[string]bool{
		"versioned":             bucket.at("VersioningConfiguration", "Status") == "Enabled",
		"encrypted":             bucket.at("BucketEncryption", "ServerSideEncryptionConfiguration", 0, "ServerSideEncryptionByDefault", "SSEAlgorithm") == "aws:kms",
		"with a key of ours":    strings.Contains(text(bucket.at("BucketEncryption")), "Key"),
		"few calls of the key":  bucket.at("BucketEncryption", "ServerSideEncryptionConfiguration", 0, "BucketKeyEnabled") == true,
		"owner enforced":        bucket.at("OwnershipControls", "Rules", 0, "ObjectOwnership") == "BucketOwnerEnforced",
		"access logged":         bucket.at("LoggingConfiguration", "DestinationBucketName") != nil,
		"kept":                  bucket.DeletionPolicy == "Retain",
		"uploads aborted":       bucket.at("LifecycleConfiguration", "Rules", 0, "AbortIncompleteMultipartUpload", "DaysAfterInitiation") == 1.0,
		"old versions expire":   bucket.at("LifecycleConfiguration", "Rules", 0, "NoncurrentVersionExpiration", "NoncurrentDays") == 1.0,
		"markers expire":        bucket.at("LifecycleConfiguration", "Rules", 0, "ExpiredObjectDeleteMarker") == true,
		"rule is on":            bucket.at("LifecycleConfiguration", "Rules", 0, "Status") == "Enabled",
		"no transitions":        !strings.Contains(text(bucket.Properties), "Transition"),
		"nothing expires alive": !strings.Contains(text(bucket.at("LifecycleConfiguration")), "ExpirationInDays"),
	} {
		if !got {
			t.Errorf("not %s: %s", name, text(bucket.Properties))
		}
	}
}

// No bucket can be made public, and each refuses requests without TLS.
func TestBucketsArePrivate(t *testing.T) {
	d := synthesised(t, standard)
	buckets := of(d.data, "AWS::S3::Bucket")
	for _, bucket := range buckets {
		for _, block := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			if bucket.at("PublicAccessBlockConfiguration", block) != true {
				t.Errorf("%s: %s is off", bucket.ID, block)
			}
		}
	}
	policies := of(d.data, "AWS::S3::BucketPolicy")
	if len(policies) != len(buckets) {
		t.Fatalf("%d policies of %d buckets", len(policies), len(buckets))
	}
	tls12 := false
	for _, policy := range policies {
		content := text(policy.at("PolicyDocument"))
		if policy.DeletionPolicy != "Retain" {
			t.Errorf("%s goes before its bucket", policy.ID)
		}
		if !strings.Contains(content, `{"Bool":{"aws:SecureTransport":"false"}},"Effect":"Deny"`) {
			t.Errorf("%s lets requests without TLS in: %s", policy.ID, content)
		}
		tls12 = tls12 || strings.Contains(content, `{"NumericLessThan":{"s3:TlsVersion":1.2}},"Effect":"Deny"`)
	}
	if !tls12 {
		t.Error("no bucket asks for TLS 1.2")
	}
}

// The key turns over every year and outlives its stack.
func TestKey(t *testing.T) {
	key := one(t, synthesised(t, standard).data, "AWS::KMS::Key")
	if key.at("EnableKeyRotation") != true || key.DeletionPolicy != "Retain" {
		t.Errorf("%+v", key)
	}
	statements, _ := key.at("KeyPolicy", "Statement").([]any)
	for _, s := range statements {
		open := text(at(s, "Principal")) == `{"AWS":"*"}`
		if open && (at(s, "Condition", "StringEquals", "kms:CallerAccount") == nil || at(s, "Condition", "StringEquals", "kms:ViaService") == nil) {
			t.Errorf("anybody may use the key: %s", text(s))
		}
	}
}

// The table is the one that internal/dynamo works on, and it can be had back.
func TestTable(t *testing.T) {
	table := one(t, synthesised(t, standard).data, "AWS::DynamoDB::Table")
	want := dynamo.Table("")
	if table.at("BillingMode") != string(want.BillingMode) || table.at("StreamSpecification", "StreamViewType") != "NEW_AND_OLD_IMAGES" {
		t.Errorf("billing %v, stream %v", table.at("BillingMode"), table.at("StreamSpecification"))
	}
	if got := text(table.at("KeySchema")); got != text(keySchema(want)) {
		t.Errorf("keys %s", got)
	}
	index := want.GlobalSecondaryIndexes[0]
	if table.at("GlobalSecondaryIndexes", 0, "IndexName") != *index.IndexName || table.at("GlobalSecondaryIndexes", 1) != nil ||
		table.at("GlobalSecondaryIndexes", 0, "Projection", "ProjectionType") != string(index.Projection.ProjectionType) ||
		table.at("GlobalSecondaryIndexes", 0, "KeySchema", 0, "AttributeName") != dynamo.DuePartitionKey ||
		table.at("GlobalSecondaryIndexes", 0, "KeySchema", 1, "AttributeName") != dynamo.DueSortKey {
		t.Errorf("indexes %s", text(table.at("GlobalSecondaryIndexes")))
	}
	if table.at("TimeToLiveSpecification", "AttributeName") != dynamo.TTLAttribute || table.at("TimeToLiveSpecification", "Enabled") != true {
		t.Errorf("TTL %s", text(table.at("TimeToLiveSpecification")))
	}
	if table.at("PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled") != true || table.at("DeletionProtectionEnabled") != true ||
		table.at("SSESpecification", "SSEType") != "KMS" || table.DeletionPolicy != "Retain" {
		t.Errorf("not protected: %+v", table)
	}
}

func keySchema(want *dynamodb.CreateTableInput) []any {
	var schema []any
	for _, k := range want.KeySchema {
		schema = append(schema, map[string]any{"AttributeName": *k.AttributeName, "KeyType": string(k.KeyType)})
	}
	return schema
}

// Nobody signs up by himself, and passwords are long.
func TestUsers(t *testing.T) {
	d := synthesised(t, standard)
	pool := one(t, d.data, "AWS::Cognito::UserPool")
	if pool.at("AdminCreateUserConfig", "AllowAdminCreateUserOnly") != true || pool.at("MfaConfiguration") != "OPTIONAL" ||
		pool.at("Policies", "PasswordPolicy", "MinimumLength") != 14.0 || pool.at("DeletionProtection") != "ACTIVE" || pool.DeletionPolicy != "Retain" {
		t.Errorf("%s", text(pool.Properties))
	}
	client := one(t, d.data, "AWS::Cognito::UserPoolClient")
	flows, _ := client.at("ExplicitAuthFlows").([]any)
	if slices.Contains(flows, any("ALLOW_USER_PASSWORD_AUTH")) || client.at("PreventUserExistenceErrors") != "ENABLED" || client.at("GenerateSecret") != false {
		t.Errorf("%s", text(client.Properties))
	}
}

// Only a deployment that says so loses its data with its stack.
func TestDestroy(t *testing.T) {
	for _, r := range synthesised(t, foreign).data {
		if r.DeletionPolicy == "Retain" || r.at("DeletionProtectionEnabled") == true {
			t.Errorf("%s %s stays", r.Type, r.ID)
		}
	}
}
