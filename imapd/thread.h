/// The THREAD algorithms (RFC 5256 section 3).  No step recurses: a mailbox may hold a thread of any depth.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "imapd/sort_values.h"

namespace postern::imapd {

/// Messages as trees.  A node with `uid` 0 stands for a message that is not there.
struct Forest {
    struct Node {
        store::Uid uid = 0;
        std::int64_t date = 0;
        std::vector<std::size_t> children;
    };
    std::vector<Node> nodes;
    std::vector<std::size_t> roots;
};

/// ORDEREDSUBJECT: messages with one base subject form a thread; the first is the parent of the others.
Forest thread_by_subject(const std::vector<SortValues>& messages);

/// REFERENCES: by Message-ID, References and In-Reply-To, then by subject.
Forest thread_by_references(const std::vector<SortValues>& messages);

/// "(1)(2 (7)(12))".
void append_forest(std::string& out, const Forest& forest, const std::function<std::uint32_t(store::Uid)>& number);

}  // namespace postern::imapd
