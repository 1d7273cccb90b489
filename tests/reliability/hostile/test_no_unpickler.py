"""Nothing that the program is linked from can read a pickle or run code of a model: neither by its own name nor by libtorch's."""
import pathlib
import re
import subprocess
import sys
import unittest

import program

FORBIDDEN = re.compile(r"[Pp]ickle|torch::load|torch::jit::|InputArchive|dlopen_python|Py_Initialize|PyImport|caffe2::serialize")


class Symbols(unittest.TestCase):
    def test_no_library_of_ours_asks_for_an_unpickler(self):
        folder = pathlib.Path(program.PROGRAM).resolve().parent
        files = [pathlib.Path(program.PROGRAM), *sorted(folder.glob("libphi3tune_*.so"))]
        self.assertGreaterEqual(len(files), 2, files)
        looked = 0
        for file in files:
            names = subprocess.run(["nm", "-DCu", file], capture_output=True, text=True, check=True).stdout.splitlines()
            self.assertGreater(len(names), 20, file)
            looked += len(names)
            self.assertEqual([name for name in names if FORBIDDEN.search(name)], [], file)
        print(f"{len(files)} files, {looked} symbols that they ask for, none of an unpickler", file=sys.stderr)

    def test_the_words_would_be_found(self):
        for name in ("                 U torch::jit::Unpickler::parse_ivalue()", "U torch::pickle_load(std::vector<char> const&)",
                     "U torch::serialize::InputArchive::load_from(std::string const&)"):
            self.assertRegex(name, FORBIDDEN)


if __name__ == "__main__":
    unittest.main()
