"""`fastloss eval`: a run has a plan of shards and chunks, does the work, adds up statistics, and shows what they come to."""
