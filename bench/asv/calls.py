"""The suite's cases as benchmarks of asv: every public function, small and middle sizes."""

from fastloss.bench import cases, subject


class Calls:
    params = [case.name for case in cases.select(["suite"])]
    param_names = ["case"]

    def setup(self, name):
        (case,) = cases.select([name])
        try:
            self.call = subject.fastloss_call(case, case.inputs(), None)
        except subject.Unsupported as reason:
            raise NotImplementedError(reason) from None  # asv's way to leave a combination out
        self.call()  # compiles

    def time_call(self, name):
        self.call()

    def peakmem_call(self, name):
        self.call()
