package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscognito"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/sitevault/sitevault/internal/dynamo"
)

// Data is the stack of what must outlive every release: backups, rows and users. The ids of the users own the backups,
// so that a new pool would orphan them; it is here and not with the service for that reason.
type Data struct {
	Stack  awscdk.Stack
	Key    awskms.Key
	Bucket awss3.Bucket
	Table  awsdynamodb.Table
	Users  awscognito.UserPool // nil with an issuer of somebody else's
	Client awscognito.UserPoolClient
}

// NewData adds the stack to the app.
func NewData(app constructs.Construct, c Config) *Data {
	d := &Data{Stack: newStack(app, c, "data", "Backups, their rows and the users of Sitevault")}
	d.addKey(c)
	d.addBucket(c)
	d.addTable(c)
	output(d.Stack, "BucketName", d.Bucket.BucketName(), "Bucket of the backups")
	output(d.Stack, "KeyArn", d.Key.KeyArn(), "Key of bucket and table")
	output(d.Stack, "TableName", d.Table.TableName(), "Table of jobs and sites")
	if c.Issuer == "" {
		d.addUsers(c)
		output(d.Stack, "UserPoolId", d.Users.UserPoolId(), "User pool: invite users here")
		output(d.Stack, "UserPoolClientId", d.Client.UserPoolClientId(), "Client of the user pool for the command line and the console")
	}
	return d
}

func newStack(app constructs.Construct, c Config, layer, description string) awscdk.Stack {
	stack := awscdk.NewStack(app, jsii.String(c.Name+"-"+layer), &awscdk.StackProps{Description: jsii.String(description)})
	awscdk.Tags_Of(stack).Add(jsii.String("service"), jsii.String(c.Name), nil)
	return stack
}

func (c Config) removal() awscdk.RemovalPolicy {
	if c.Retain {
		return awscdk.RemovalPolicy_RETAIN
	}
	return awscdk.RemovalPolicy_DESTROY
}

func (d *Data) addKey(c Config) {
	d.Key = awskms.NewKey(d.Stack, jsii.String("Key"), &awskms.KeyProps{
		Description: jsii.String("Backups and rows of " + c.Name), EnableKeyRotation: jsii.Bool(true), RemovalPolicy: c.removal(),
	})
	// DynamoDB calls with the key in the name of whoever reads or writes the table, and makes grants for its own work.
	// As with the key that DynamoDB would make itself, who may use the table may use the key through it.
	d.Key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid:        jsii.String("ThroughDynamoDB"),
		Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()},
		Actions: jsii.Strings("kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey",
			"kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey", "kms:CreateGrant"),
		Resources: jsii.Strings("*"), // of a key's policy: this key
		Conditions: &map[string]any{"StringEquals": map[string]*string{
			"kms:CallerAccount": d.Stack.Account(),
			"kms:ViaService":    jsii.String("dynamodb." + *d.Stack.Region() + ".amazonaws.com"),
		}},
	}), nil)
}

// What the lifecycle rules wait for. No upload goes on for longer than a day: see maxRetryWindowHours. The service deletes
// versions by their ids; the rule is for those that somebody else makes noncurrent.
const (
	abortUploadsAfterDays     = 1
	expireNoncurrentAfterDays = 1
)

func (d *Data) addBucket(c Config) {
	days := func(n int) awscdk.Duration { return awscdk.Duration_Days(jsii.Number(n)) }
	logs := awss3.NewBucket(d.Stack, jsii.String("AccessLogs"), &awss3.BucketProps{
		Encryption: awss3.BucketEncryption_S3_MANAGED, BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		EnforceSSL: jsii.Bool(true), ObjectOwnership: awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED, RemovalPolicy: c.removal(),
		LifecycleRules: &[]*awss3.LifecycleRule{{
			Id: jsii.String("old-logs"), Expiration: days(c.LogRetention), AbortIncompleteMultipartUploadAfter: days(1),
		}},
	})
	output(d.Stack, "AccessLogsBucketName", logs.BucketName(), "Bucket of the access logs of the bucket")
	d.Bucket = awss3.NewBucket(d.Stack, jsii.String("Bucket"), &awss3.BucketProps{
		Versioned: jsii.Bool(true), Encryption: awss3.BucketEncryption_KMS, EncryptionKey: d.Key, BucketKeyEnabled: jsii.Bool(true),
		BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(), EnforceSSL: jsii.Bool(true), MinimumTLSVersion: jsii.Number(1.2),
		ObjectOwnership: awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED, RemovalPolicy: c.removal(),
		ServerAccessLogsBucket: logs,
		LifecycleRules: &[]*awss3.LifecycleRule{{
			Id: jsii.String("leftovers"), AbortIncompleteMultipartUploadAfter: days(abortUploadsAfterDays),
			NoncurrentVersionExpiration: days(expireNoncurrentAfterDays), ExpiredObjectDeleteMarker: jsii.Bool(true),
		}},
	})
	for _, bucket := range []awss3.Bucket{logs, d.Bucket} {
		bucket.Policy().ApplyRemovalPolicy(c.removal()) // a bucket that stays goes on to refuse what is not encrypted on its way
	}
}

// addTable makes the table that internal/dynamo asks for, and protects it.
func (d *Data) addTable(c Config) {
	want := dynamo.Table("")
	partition, sort := keys(want.KeySchema)
	d.Table = awsdynamodb.NewTable(d.Stack, jsii.String("Table"), &awsdynamodb.TableProps{
		PartitionKey: partition, SortKey: sort, TimeToLiveAttribute: jsii.String(dynamo.TTLAttribute),
		BillingMode: awsdynamodb.BillingMode_PAY_PER_REQUEST, Stream: awsdynamodb.StreamViewType(want.StreamSpecification.StreamViewType),
		Encryption: awsdynamodb.TableEncryption_CUSTOMER_MANAGED, EncryptionKey: d.Key, RemovalPolicy: c.removal(),
		DeletionProtection:               jsii.Bool(c.Retain),
		PointInTimeRecoverySpecification: &awsdynamodb.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: jsii.Bool(true)},
	})
	for _, index := range want.GlobalSecondaryIndexes {
		partition, sort := keys(index.KeySchema)
		d.Table.AddGlobalSecondaryIndex(&awsdynamodb.GlobalSecondaryIndexProps{
			IndexName: index.IndexName, PartitionKey: partition, SortKey: sort,
			ProjectionType: awsdynamodb.ProjectionType(index.Projection.ProjectionType),
		})
	}
}

// keys reads a schema of two keys, which are strings.
func keys(schema []types.KeySchemaElement) (partition, sort *awsdynamodb.Attribute) {
	text := func(name *string) *awsdynamodb.Attribute {
		return &awsdynamodb.Attribute{Name: name, Type: awsdynamodb.AttributeType_STRING}
	}
	return text(schema[0].AttributeName), text(schema[1].AttributeName)
}

// addUsers makes a pool whose users an administrator invites.
func (d *Data) addUsers(c Config) {
	d.Users = awscognito.NewUserPool(d.Stack, jsii.String("Users"), &awscognito.UserPoolProps{
		SelfSignUpEnabled: jsii.Bool(false), SignInAliases: &awscognito.SignInAliases{Email: jsii.Bool(true)},
		SignInCaseSensitive: jsii.Bool(false), AutoVerify: &awscognito.AutoVerifiedAttrs{Email: jsii.Bool(true)},
		AccountRecovery: awscognito.AccountRecovery_EMAIL_ONLY,
		Mfa:             awscognito.Mfa_OPTIONAL,
		MfaSecondFactor: &awscognito.MfaSecondFactor{Otp: jsii.Bool(true), Sms: jsii.Bool(false)},
		PasswordPolicy: &awscognito.PasswordPolicy{
			MinLength: jsii.Number(14), RequireDigits: jsii.Bool(true), RequireLowercase: jsii.Bool(true),
			RequireUppercase: jsii.Bool(true), RequireSymbols: jsii.Bool(true),
			TempPasswordValidity: awscdk.Duration_Days(jsii.Number(3)),
		},
		FeaturePlan:        awscognito.FeaturePlan_ESSENTIALS,
		DeletionProtection: jsii.Bool(c.Retain), RemovalPolicy: c.removal(),
	})
	d.Client = d.Users.AddClient(jsii.String("Client"), &awscognito.UserPoolClientOptions{
		AuthFlows:                  &awscognito.AuthFlow{UserSrp: jsii.Bool(true), AdminUserPassword: jsii.Bool(true)},
		PreventUserExistenceErrors: jsii.Bool(true), EnableTokenRevocation: jsii.Bool(true), GenerateSecret: jsii.Bool(false),
		DisableOAuth:         jsii.Bool(true), // no page of Cognito's own signs anybody in
		IdTokenValidity:      awscdk.Duration_Hours(jsii.Number(1)),
		AccessTokenValidity:  awscdk.Duration_Hours(jsii.Number(1)),
		RefreshTokenValidity: awscdk.Duration_Days(jsii.Number(30)),
	})
}
