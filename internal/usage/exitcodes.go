package usage

import "github.com/spf13/cobra"

// NewExitCodes returns the page of help about the exit codes, which both programs have.
func NewExitCodes() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "what the exit codes mean", Long: `All commands of colophon and colophond have the same exit codes:

  0  done, or accepted
  1  failure: what you asked for was understood, and did not work
  2  usage error: the command line, or a file that it names, is wrong
  3  rejected: the image does not have the proof that you demand
  4  undecided: verify could not find out, for example because the registry did not
     answer. This is never treated as accepted

Commands of "colophon log" end with 3 if the log contradicts itself, or does not have
what was asked for, and with 4 if it could not be read.

Two more are alarms of "colophon log watch", for which 3 means that somebody signed and
no known release explains it, and 4 that a log or an entry could not be read:

  5  the key of a log is suspect: it did not sign the checkpoint, or signed something else
  6  a log misbehaves: it signed two histories, took entries away, or withholds them

Of several images, the worst decides: rejected, then undecided, then accepted. A
script that does not tell codes apart treats all but 0 as a refusal, and is right:

  colophon verify -q IMAGE --policy policy.json || exit 1`}
}
