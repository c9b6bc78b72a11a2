/// The one main() of all unit tests.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>

#include <csignal>

namespace {
[[maybe_unused]] const auto kIgnored = std::signal(SIGPIPE, SIG_IGN);   // as in every service: whom one writes to may have gone
}
