module go_parents

go 1.24
