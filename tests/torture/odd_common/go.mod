module autoinstr.test/odd_common

go 1.17
