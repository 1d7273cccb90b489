// The program's version: the same as project(VERSION) in CMakeLists.txt, which a test holds it to.
#pragma once

namespace phi3tune {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace phi3tune
