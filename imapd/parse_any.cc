#include "imapd/parse_any.h"

#include "imapd/syntax.h"
#include "lib/base/strings.h"

namespace postern::imapd {

bool parse_head(Parser& parser, CommandHead& out) {
    if (!parser.tag(out.tag)) {
        return false;
    }
    if (!parser.space() || !parser.word(out.name)) {
        return parser.fail("Missing command");
    }
    out.uid = out.name == "UID";
    if (out.uid && (!parser.space() || !parser.word(out.name))) {
        return parser.fail("Missing UID command");
    }
    parser.take(' ');
    return true;
}

bool parse_any(std::string_view text) {
    Parser parser(text);
    CommandHead head;
    if (!parse_head(parser, head)) {
        return false;
    }
    const std::string& name = head.name;
    FetchArguments fetch;
    StoreArguments store;
    SortArguments sort;
    ThreadArguments thread;
    SearchArguments search;
    StatusArguments status;
    SelectArguments select;
    CreateArguments create;
    ListArguments list;
    CopyArguments copy;
    AppendItem item;
    std::vector<std::pair<std::string, std::string>> id;
    std::string first;
    std::string second;
    SequenceSet set;
    if (name == "FETCH") { return parse_fetch(parser, fetch); }
    if (name == "STORE") { return parse_store(parser, store); }
    if (name == "SORT") { return parse_sort(parser, sort); }
    if (name == "THREAD") { return parse_thread(parser, thread); }
    if (name == "SEARCH") { return parse_search(parser, search); }
    if (name == "STATUS") { return parse_status(parser, status); }
    if (name == "SELECT" || name == "EXAMINE") { return parse_select(parser, select); }
    if (name == "CREATE") { return parse_create(parser, create); }
    if (name == "LIST") { return parse_list(parser, list); }
    if (name == "LSUB") { return parse_lsub(parser, list); }
    if (name == "COPY" || name == "MOVE") { return parse_copy(parser, copy); }
    if (name == "ID") { return parse_id(parser, id); }
    if (name == "APPEND") { return parser.astring(first) && parse_append_item(parser, item); }
    if (name == "LOGIN" || name == "RENAME") {
        return parser.astring(first) && parser.space() && parser.astring(second) && parser.end();
    }
    if (name == "EXPUNGE" && head.uid) { return parser.set(set) && parser.end(); }
    if (name == "DELETE" || name == "SUBSCRIBE" || name == "UNSUBSCRIBE") {
        return parser.astring(first) && parser.end();
    }
    return parser.end();
}

}  // namespace postern::imapd
