// Signals and deadlines. Each case with a real signal runs in a process of its own.
#include "phi3tune/core/stop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

namespace phi3tune {
namespace {

using namespace std::chrono_literals;

constexpr int kGood = 11;
constexpr auto kLonger = 350ms;  // than one request may take to come twice

class StopDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { ::testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

TEST_F(StopDeathTest, OneSignalSetsTheFlagAndTheSecondEndsTheProcess) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    EXPECT_EXIT(
        {
          install_signal_handlers();
          const bool before = stop_requested() || std::strcmp(stop_reason(), "") != 0;
          ::raise(signal);
          ::_exit(!before && stop_requested() && std::strcmp(stop_reason(), "a signal") == 0 ? kGood : 1);
        },
        ::testing::ExitedWithCode(kGood), "stopping; a second signal ends at once; what was saved stands");
  }
  const std::pair<int, int> pairs[] = {{SIGTERM, SIGTERM}, {SIGINT, SIGTERM}, {SIGHUP, SIGINT}};
  for (const auto& [first, second] : pairs) {
    EXPECT_EXIT(
        {
          install_signal_handlers();
          ::raise(first);
          std::this_thread::sleep_for(kLonger);
          ::raise(second);
          ::_exit(1);
        },
        ::testing::ExitedWithCode(75), "a second signal ends at once")
        << first << " " << second;
  }
}

TEST_F(StopDeathTest, OneRequestMayComeTwice) {
  EXPECT_EXIT(
      {
        install_signal_handlers();
        ::raise(SIGTERM);
        ::raise(SIGTERM);
        ::raise(SIGHUP);
        ::_exit(stop_requested() ? kGood : 1);
      },
      ::testing::ExitedWithCode(kGood), "");
}

TEST_F(StopDeathTest, AHangupThatNohupIgnoresStaysIgnored) {
  EXPECT_EXIT(
      {
        ::signal(SIGHUP, SIG_IGN);
        install_signal_handlers();
        ::raise(SIGHUP);
        ::_exit(stop_requested() ? 1 : kGood);
      },
      ::testing::ExitedWithCode(kGood), "");
}

TEST_F(StopDeathTest, AFullPipeOrFileIsNoDeath) {
  EXPECT_EXIT(
      {
        install_signal_handlers();
        ::raise(SIGPIPE);
        ::raise(SIGXFSZ);
        ::_exit(stop_requested() ? 1 : kGood);
      },
      ::testing::ExitedWithCode(kGood), "");
}

TEST_F(StopDeathTest, AskingForACheckpointStopsNothing) {
  EXPECT_EXIT(
      {
        install_signal_handlers();
        const bool before = take_save_request();
        ::raise(SIGUSR1);
        ::raise(SIGUSR1);
        const bool asked = take_save_request();
        const bool again = take_save_request();
        ::_exit(!before && asked && !again && !stop_requested() ? kGood : 1);
      },
      ::testing::ExitedWithCode(kGood), "a checkpoint is saved at the end of this step");
}

// What the interrupted code was about to read of errno is still there, even when the word cannot be written.
TEST_F(StopDeathTest, HandlersLeaveErrnoAlone) {
  for (const int signal : {SIGTERM, SIGUSR1}) {
    EXPECT_EXIT(
        {
          install_signal_handlers();
          ::close(STDERR_FILENO);
          errno = ENOSPC;
          ::raise(signal);
          ::_exit(errno == ENOSPC ? kGood : 1);
        },
        ::testing::ExitedWithCode(kGood), "");
  }
}

TEST_F(StopDeathTest, ASignalAfterTheDeadlineIsAFirstOne) {
  EXPECT_EXIT(
      {
        install_signal_handlers();
        stop_at(std::chrono::steady_clock::now() - kLonger);
        const bool stopped = stop_requested();
        ::raise(SIGTERM);
        ::_exit(stopped && std::strcmp(stop_reason(), "a signal") == 0 ? kGood : 1);
      },
      ::testing::ExitedWithCode(kGood), "");
}

class StopFlag : public ::testing::Test {
 protected:
  void TearDown() override { forget_stop(); }
};

TEST_F(StopFlag, IsSetFromTheDeadlineOn) {
  stop_at(std::chrono::steady_clock::now() + 30ms);
  EXPECT_FALSE(stop_requested());
  EXPECT_STREQ(stop_reason(), "");
  std::this_thread::sleep_for(40ms);
  EXPECT_TRUE(stop_requested());
  EXPECT_STREQ(stop_reason(), "max_time");
  stop_at(std::chrono::steady_clock::now() + 1h);
  EXPECT_FALSE(stop_requested());
}

TEST_F(StopFlag, IsForgottenWithDeadlineAndRequest) {
  request_stop();
  stop_at(std::chrono::steady_clock::now());
  request_save();
  EXPECT_TRUE(stop_requested());
  EXPECT_STREQ(stop_reason(), "a signal");
  forget_stop();
  EXPECT_FALSE(stop_requested());
  EXPECT_FALSE(take_save_request());
  EXPECT_STREQ(stop_reason(), "");
}

TEST_F(StopFlag, ARequestToSaveIsTakenOnce) {
  request_save();
  EXPECT_TRUE(take_save_request());
  EXPECT_FALSE(take_save_request());
}

TEST_F(StopDeathTest, ASoftInterruptIsTakenBackAndOthersAreNot) {
  EXPECT_EXIT(
      {
        install_signal_handlers();
        soften_interrupts();
        bool good = !take_interrupt();
        for (int i = 0; i < 3; ++i) {
          ::raise(SIGINT);
          std::this_thread::sleep_for(kLonger);
          ::raise(SIGINT);  // of any other signal this would be the second
          good = good && stop_requested() && take_interrupt() && !stop_requested() && !take_interrupt();
        }
        ::raise(SIGINT);
        ::raise(SIGTERM);
        good = good && take_interrupt() && stop_requested();
        ::_exit(good ? kGood : 1);
      },
      ::testing::ExitedWithCode(kGood), "stopping");
}

}  // namespace
}  // namespace phi3tune
