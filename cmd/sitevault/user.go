package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/backup"
)

const userIDHelp = `Print the id of the user whose tokens have SUBJECT in their claim sub. Rows, the keys of objects, secrets and logs name
users by this id, on one machine and on AWS.

A subject of lower-case letters, digits, "-" and "_" is its own id, unless it begins with "u-" or is "local". Any other
subject becomes a digest that begins with "u-".`

func (p *program) userIDCommand() *cobra.Command {
	return &cobra.Command{
		Use: "user-id SUBJECT", Short: "Print the id of a user who signs in", Long: userIDHelp, Args: arguments(1, 1),
		Example: `  sitevault secret put shop --user "$(sitevault user-id 'auth0|5f7c8ec7')"`,
		RunE: func(_ *cobra.Command, args []string) error {
			_, err := fmt.Fprintln(p.out, backup.UserID(args[0]))
			return err
		},
	}
}
