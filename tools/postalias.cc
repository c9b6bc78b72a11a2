/// postalias - makes, asks and changes alias databases (aliases(5)).
#include "tools/table_command.h"

int main(int argc, char** argv) {
    return postern::tools::table_command("postalias", postern::tools::SourceFormat::alias, argc, argv);
}
