package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// fromEnvironment lets each local flag of cmd be set by a variable: prefix, then the flag's name in capitals with _ for -.
// The command line wins. The help of each flag names its variable.
func (p *program) fromEnvironment(cmd *cobra.Command, prefix string) {
	variables := map[string]string{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		variables[f.Name] = prefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		f.Usage += " [$" + variables[f.Name] + "]"
	})
	inner := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		for name, variable := range variables {
			flag := cmd.Flags().Lookup(name)
			if flag.Changed && hasPassword(flag.Value.String()) {
				fmt.Fprintf(p.err, "Warning: the password in --%s can be read by every user of this machine; put the value into $%s instead.\n", name, variable)
			}
			value := p.getenv(variable)
			if value == "" || flag.Changed {
				continue
			}
			if err := cmd.Flags().Set(name, value); err != nil {
				return usage("$%s: %w", variable, err)
			}
		}
		if inner != nil {
			return inner(cmd, args)
		}
		return nil
	}
}

// hasPassword tells whether a text holds scheme://user:password@, also where that is no proper URL.
func hasPassword(text string) bool {
	_, rest, _ := strings.Cut(text, "://")
	end := strings.LastIndex(rest, "@") // a password may hold one
	_, password, _ := strings.Cut(rest[:max(end, 0)], ":")
	return password != ""
}
