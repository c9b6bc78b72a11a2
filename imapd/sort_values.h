/// What SORT and THREAD compare of a message.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "imapd/base_subject.h"
#include "imapd/syntax.h"
#include "lib/store/store.h"

namespace postern::imapd {

struct SortValues {
    store::Uid uid = 0;
    std::int64_t arrival = 0;                  ///< internal date
    std::int64_t sent = 0;                     ///< Date field, else the internal date (RFC 5256 section 2.2)
    std::uint64_t size = 0;
    std::string subject;                       ///< base subject, as collated
    bool reply = false;
    std::string from, to, cc;                  ///< local part of the first address, as collated
    std::string display_from, display_to;      ///< RFC 5957
    std::string message_id;                    ///< without angle brackets
    std::vector<std::string> references;       ///< References, else the first of In-Reply-To
};

/// Text as it is compared: i;unicode-casemap in effect (RFC 5051).
std::string collated(std::string_view utf8);

/// Reads what is needed; false when the message is gone.
bool read_sort_values(store::Reader& reader, store::Uid uid, bool for_threads, SortValues& out);

}  // namespace postern::imapd
