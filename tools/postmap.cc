/// postmap - makes, asks and changes lookup tables.
#include "tools/table_command.h"

int main(int argc, char** argv) {
    return postern::tools::table_command("postmap", postern::tools::SourceFormat::map, argc, argv);
}
