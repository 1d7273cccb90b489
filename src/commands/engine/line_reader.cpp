#include "line_reader.h"

#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>
#include <string_view>

#include "phi3tune/core/stop.h"

namespace phi3tune::commands {
namespace {

using Got = LineReader::Got;

constexpr int kLook = 100;  // ms between looks at signals and the window's size

// True when standard input has something, or its end.
bool input_waits(int milliseconds) {
  pollfd entry{STDIN_FILENO, POLLIN, 0};
  return poll(&entry, 1, milliseconds) > 0;
}

class PipeReader final : public LineReader {
 public:
  Got next(const std::string&, std::string& line) override {
    line.clear();
    for (;;) {
      const size_t end = buffer_.find('\n');
      if (end != std::string::npos) {
        line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        if (line.ends_with('\r')) {
          line.pop_back();
        }
        return Got::kLine;
      }
      if (ended_) {
        line.swap(buffer_);
        return line.empty() ? Got::kEnd : Got::kLine;
      }
      if (stop_requested()) {
        return Got::kStopped;
      }
      if (input_waits(kLook)) {
        std::array<char, 4096> bytes{};
        const auto count = read(STDIN_FILENO, bytes.data(), bytes.size());
        ended_ = count == 0 || (count < 0 && errno != EINTR);
        buffer_.append(bytes.data(), count > 0 ? static_cast<size_t>(count) : 0);
      }
    }
  }
  bool more_waits() override { return false; }
  bool interactive() const noexcept override { return false; }

 private:
  std::string buffer_;
  bool ended_ = false;
};

// After Ctrl-Z and `fg` the terminal is in the shell's mode, and the line is no longer below the cursor.
void take_terminal_back(EditLine* editor) {
  termios mode{};
  if (tcgetattr(STDIN_FILENO, &mode) == 0 && (mode.c_lflag & ICANON) != 0) {
    el_set(editor, EL_PREP_TERM, 0);  // the editor thinks that it has the terminal
    el_set(editor, EL_PREP_TERM, 1);
    el_set(editor, EL_REFRESH);
  }
}

// One character of standard input for the editor; gives up at a signal.
int read_character(EditLine* editor, wchar_t* character) {
  std::mbstate_t state{};
  for (;;) {
    while (!input_waits(kLook)) {
      if (stop_requested()) {
        errno = EINTR;
        return -1;
      }
      take_terminal_back(editor);
      int columns = 0;
      winsize window{};
      if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 &&
          el_get(editor, EL_GETTC, "co", &columns) == 0 && columns != window.ws_col) {
        el_resize(editor);
        std::fputs("\r\x1b[J", stderr);  // the terminal wrapped the line anew: the editor draws it from here
        std::fflush(stderr);
        el_set(editor, EL_REFRESH);
      }
    }
    char byte = 0;
    const auto count = read(STDIN_FILENO, &byte, 1);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return static_cast<int>(count);
    }
    const size_t used = std::mbrtowc(character, &byte, 1, &state);
    if (used == static_cast<size_t>(-2)) {
      continue;  // the beginning of a character
    }
    if (used == static_cast<size_t>(-1)) {
      state = {};
      *character = L'?';
    }
    return 1;
  }
}

char* prompt_of(EditLine* editor) {
  void* prompt = nullptr;
  el_get(editor, EL_CLIENTDATA, &prompt);
  return static_cast<std::string*>(prompt)->data();
}

class TerminalReader final : public LineReader {
 public:
  TerminalReader() {
    // Characters of several bytes want a locale that knows them; numbers and messages stay as they are.
    std::setlocale(LC_CTYPE, "");
    if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) {
      std::setlocale(LC_CTYPE, "C.UTF-8");
    }
    editor_ = el_init("phi3-tune", stdin, stderr, stderr);
    history_ = history_init();
    HistEvent event{};
    history(history_, &event, H_SETSIZE, 1000);
    history(history_, &event, H_SETUNIQUE, 1);
    el_set(editor_, EL_CLIENTDATA, &prompt_);
    el_set(editor_, EL_PROMPT, prompt_of);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_SIGNAL, 0);
    // Between two lines too nothing is echoed or taken as the end of the input: what is typed while an answer comes, a
    // Ctrl-D among it, is the editor's. The original mode comes back with el_end.
    el_set(editor_, EL_SETTY, "-x", "-icanon", "-echo", nullptr);
    el_set(editor_, EL_HIST, history, history_);
    el_set(editor_, EL_GETCFN, read_character);
  }
  ~TerminalReader() override {
    history_end(history_);
    el_end(editor_);
  }
  TerminalReader(const TerminalReader&) = delete;
  TerminalReader& operator=(const TerminalReader&) = delete;

  Got next(const std::string& prompt, std::string& line) override {
    prompt_ = prompt;
    line.clear();
    int count = 0;
    const char* text = el_gets(editor_, &count);
    if (stop_requested()) {
      el_reset(editor_);
      std::fputs("\n\x1b[J", stderr);  // a long line has rows below the cursor
      if (take_interrupt() && !stop_requested()) {
        return Got::kInterrupted;
      }
      return Got::kStopped;
    }
    if (text == nullptr || count <= 0) {
      return Got::kEnd;
    }
    line.assign(text, static_cast<size_t>(count));
    if (line.find_first_not_of(" \n") != std::string::npos) {
      HistEvent event{};
      history(history_, &event, H_ENTER, line.c_str());
    }
    if (line.ends_with('\n')) {
      line.pop_back();
    }
    return Got::kLine;
  }
  bool more_waits() override { return input_waits(20); }
  bool interactive() const noexcept override { return true; }

 private:
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
  std::string prompt_;
};

}  // namespace

std::unique_ptr<LineReader> LineReader::of_process() {
  if (isatty(STDIN_FILENO) != 0 && isatty(STDERR_FILENO) != 0) {
    return std::make_unique<TerminalReader>();
  }
  return std::make_unique<PipeReader>();
}

}  // namespace phi3tune::commands
