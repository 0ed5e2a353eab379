module autoinstr.test/odd

go 1.17
