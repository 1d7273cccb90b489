"""The list of planted bugs fits the sources."""
import pathlib
import unittest

import planted


class Planted(unittest.TestCase):
    def test_each_is_there_once_and_has_someone_who_must_see_it(self):
        bugs = planted.listed()
        self.assertEqual([fault for bug in bugs for fault in bug.faults()], [])
        self.assertGreaterEqual(len(bugs), 20)
        rows = {int(path.stem[4:]) for path in pathlib.Path(__file__).parent.glob("row_[0-9][0-9].py")}
        for bug in bugs:
            self.assertEqual(sum(bool(one) for one in (bug.row, bug.unit, bug.cli)), 1, bug)
            self.assertTrue(bug.row is None or bug.row in rows, bug)
            for find, replace in bug.exchanges():
                self.assertNotEqual(find, replace, bug)


if __name__ == "__main__":
    unittest.main()
