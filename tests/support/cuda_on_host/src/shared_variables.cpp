// __shared__ variables are the writable function-local statics of the .cu files. GCC drops a section attribute inside
// templates, so they are found by name in the symbol table of the program or library that holds them, where the symbols
// of a file follow its name.
#include "shared_variables.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string_view>

namespace cuda_on_host {
namespace {

struct Program {
  std::vector<std::unique_ptr<Region>> owned;
  std::map<int, std::vector<Region*>> variables;  // by number of the file
  std::vector<Region*> all;
  std::map<uintptr_t, int> functions;  // local functions of the .cu files
};

std::string last_name(const char* mangled) {
  char* plain = abi::__cxa_demangle(mangled, nullptr, nullptr, nullptr);
  const std::string whole = plain ? plain : mangled;
  std::free(plain);
  return whole.substr(whole.rfind(':') + 1);
}

void read_symbols(Program& program, const char* bytes, const Elf64_Shdr* sections, const Elf64_Shdr& table) {
  const auto* symbols = reinterpret_cast<const Elf64_Sym*>(bytes + table.sh_offset);
  const char* names = bytes + sections[table.sh_link].sh_offset;
  int file = 0;
  bool in_kernel_file = false;
  for (size_t i = 0; i < table.sh_size / sizeof(Elf64_Sym); ++i) {
    const Elf64_Sym& symbol = symbols[i];
    const char* name = names + symbol.st_name;
    const auto type = ELF64_ST_TYPE(symbol.st_info);
    if (type == STT_FILE) {
      ++file;
      in_kernel_file = std::string_view(name).ends_with(".cu");
    }
    if (!in_kernel_file || ELF64_ST_BIND(symbol.st_info) != STB_LOCAL) continue;
    const uintptr_t begin = load_address() + symbol.st_value;
    if (type == STT_FUNC) program.functions[begin] = file;
    if (type != STT_OBJECT || !std::string_view(name).starts_with("_ZZ")) continue;
    if (!(sections[symbol.st_shndx].sh_flags & SHF_WRITE)) continue;
    auto region =
        std::make_unique<Region>(Region{begin, begin + symbol.st_size, 0, "__shared__ " + last_name(name), true});
    program.variables[file].push_back(region.get());
    program.all.push_back(region.get());
    program.owned.push_back(std::move(region));
  }
}

// The program or the shared library that this code and the kernels are linked into.
const Dl_info& own_module() {
  static const Dl_info module = [] {
    Dl_info found{};
    dladdr(reinterpret_cast<const void*>(&own_module), &found);
    return found;
  }();
  return module;
}

Program read_program() {
  std::ifstream file(own_module().dli_fname, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  const auto* head = reinterpret_cast<const Elf64_Ehdr*>(bytes.data());
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(bytes.data() + head->e_shoff);
  Program program;
  for (int i = 0; i < head->e_shnum; ++i)
    if (sections[i].sh_type == SHT_SYMTAB) read_symbols(program, bytes.data(), sections, sections[i]);
  return program;
}

}  // namespace

uintptr_t load_address() { return reinterpret_cast<uintptr_t>(own_module().dli_fbase); }

const std::vector<Region*>& shared_variables_of(const void* kernel) {
  static Program program = read_program();
  const auto function = program.functions.find(reinterpret_cast<uintptr_t>(kernel));
  return function == program.functions.end() ? program.all : program.variables[function->second];
}

}  // namespace cuda_on_host
