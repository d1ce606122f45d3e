"""`fastloss bench`: its arguments, what it measures, and one side against another."""
