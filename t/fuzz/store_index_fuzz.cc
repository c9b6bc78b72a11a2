/// Values of the index and the cache, with checksums that fit: what a hostile process of the same user could write.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/store/header_cache.h"
#include "lib/store/index_format.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern::store;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto record = decode_mailbox(text)) {
        if (encode_mailbox(*record) != text) {
            std::abort();
        }
    }
    if (const auto entries = EntriesView::parse(text, 0)) {
        for (std::size_t i = 0; i < entries->size(); ++i) {
            if (entries->find(entries->at(i).uid) != i) {
                std::abort();
            }
        }
    }
    if (auto names = NamesView::parse(text)) {
        std::size_t bytes = 0;
        while (names->next()) {
            bytes += names->base().size() + names->odd_suffix().size();
        }
        if (bytes > size) {
            std::abort();
        }
    }
    if (const auto ranges = decode_ranges(text)) {
        ranges->text();
    }
    if (const auto summary = decode_summary(text)) {
        if (summary->envelope.size() + summary->body.size() + summary->bodystructure.size() > size) {
            std::abort();
        }
    }
    const std::string names[] = {"subject", "from", "to"};
    std::string out;
    pick_cached_fields(text, names, out);
    if (const auto payload = unseal(Kind::names, "key", text); payload && seal(Kind::names, "key", *payload) != text) {
        std::abort();
    }
    if (out.size() > size) {
        std::abort();
    }
    return 0;
}
