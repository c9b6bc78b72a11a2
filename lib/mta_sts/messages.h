/// What smtp(8) and mta-sts(8) say to each other on private/mta-sts: questions about domains, answered in any order.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "lib/mta_sts/policy.h"

namespace postern {

/// Why a policy that a domain announces cannot be had, in the terms of RFC 8460 section 4.3.2.2.
enum class StsProblem : std::uint8_t {
    none,
    fetch_error,      ///< the file cannot be fetched
    invalid,          ///< what was fetched is no policy
    webpki_invalid,   ///< the web server's certificate does not hold
};

struct StsQuestion {
    std::uint32_t id = 0;
    std::string domain;              ///< the policy domain (RFC 8461 section 3): what is behind the "@", or the next hop
};
/// `found` says whether there is a policy to obey, fetched now or before; `problem` what went wrong this time.
struct StsAnswer {
    std::uint32_t id = 0;
    bool found = false;
    std::uint8_t mode = 0;           ///< an StsMode
    std::vector<std::string> mx;
    std::string policy_id;
    std::int64_t fetched = 0;        ///< seconds since 1970
    std::int64_t expires = 0;
    bool kept = false;               ///< known before this question: not fetched because of it
    std::vector<std::string> lines;  ///< as StsPolicy::lines
    std::uint8_t problem = 0;        ///< an StsProblem
    std::string problem_text;
};

template <class A>
void fields(A& a, StsQuestion& m) {
    a(m.id, m.domain);
}
template <class A>
void fields(A& a, StsAnswer& m) {
    a(m.id, m.found, m.mode, m.mx, m.policy_id, m.fetched, m.expires, m.kept, m.lines, m.problem, m.problem_text);
}

using ToMtaSts = std::variant<StsQuestion>;
using FromMtaSts = std::variant<StsAnswer>;

inline constexpr std::size_t kMaxStsQuestion = 1024;
inline constexpr std::size_t kMaxStsAnswer = 512 * 1024;
inline constexpr const char* kStsSocket = "private/mta-sts";

}  // namespace postern
