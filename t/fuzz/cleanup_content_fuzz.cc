// Message content is the most hostile input there is: cut anywhere, it gives the same header and body, keeps every
// byte, and address rewriting that changes nothing gives the field back unchanged.
#include <cstdint>
#include <cstdlib>

#include "lib/mail/header_rewrite.h"
#include "cleanup/splitter.h"
#include "tools/sendmail_input.h"

using namespace postern;

namespace {

struct Parts {
    std::string header, body;
};

Parts split(const std::string& content, std::size_t cut) {
    cleanup::ContentSplitter splitter(1000, 5000);
    Parts parts;
    const auto take = [&] {
        for (const std::string& field : splitter.take_fields()) {
            parts.header += field;
        }
        parts.body += splitter.take_body();
    };
    for (std::size_t at = 0; at < content.size() && !splitter.header_too_big(); at += cut) {
        splitter.feed(std::string_view(content).substr(at, cut));
        take();
    }
    splitter.finish();
    take();
    if (splitter.header_too_big()) {
        return {};
    }
    return parts;
}

std::string filter(const std::string& content, std::size_t cut) {
    sendmail::InputFilter input({.dot_ends = false, .want_header = true, .fix = sendmail::FixLineEndings::never});
    std::string out;
    for (std::size_t at = 0; at < content.size(); at += cut) {
        out += input.feed(std::string_view(content).substr(at, cut));
    }
    out += input.finish();
    (void)sendmail::recipients_in_header(input.header());
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) {
        return 0;
    }
    const std::size_t cut = data[0] % 16 + 1;
    const std::string content(reinterpret_cast<const char*>(data) + 1, size - 1);
    const Parts whole = split(content, content.size() + 1);
    const Parts pieces = split(content, cut);
    if (whole.header != pieces.header || whole.body != pieces.body || filter(content, cut) != filter(content, content.size() + 1)) {
        std::abort();
    }
    const Result<std::string> same =
        rewrite_addresses(content, [](const std::string& address) { return Result<std::string>(address); });
    if (!same || *same != content) {
        std::abort();
    }
    (void)rewrite_addresses(content, [](const std::string& address) { return Result<std::string>(address + "x"); });
    return 0;
}
