// bounce_template_file: whatever is accepted can be expanded and printed.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lib/notice/templates.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern;
    static const Config config = std::move(*Config::from_text("myhostname = mail.example.org\n"));
    const Result<NoticeTemplates> parsed = NoticeTemplates::parse({reinterpret_cast<const char*>(data), size});
    if (!parsed) {
        return 0;
    }
    (void)preview_templates(config, *parsed).ok();
    for (const NoticeTemplate* one : {&parsed->failure, &parsed->delay, &parsed->success, &parsed->verify}) {
        if (one->subject.find('\n') != std::string::npos || one->from.find('\n') != std::string::npos || one->body.empty()) {
            std::abort();   // a header of a notice would have more lines than one
        }
    }
    return format_templates(*parsed).empty() ? 1 : 0;
}
